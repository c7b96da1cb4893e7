package kind

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// TestKindsAreComplete: each list of translate.Objects is filled by a kind, and
// each resource of package custom has one.
func TestKindsAreComplete(t *testing.T) {
	objects := reflect.TypeFor[translate.Objects]()
	var got, want []string
	for i := range objects.NumField() {
		if objects.Field(i).Type.Kind() == reflect.Slice {
			want = append(want, objects.Field(i).Name)
		}
	}
	for _, k := range All {
		o := &translate.Objects{}
		k.Add(o, k.Object())
		for i := range objects.NumField() {
			if list := reflect.ValueOf(o).Elem().Field(i); list.Kind() == reflect.Slice && list.Len() > 0 {
				got = append(got, objects.Field(i).Name)
			}
		}
	}
	slices.Sort(got)
	got = slices.Compact(got) // kinds of policies share a list
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("lists of Objects that are filled, -want +got:", diff)
	}
	got, want = nil, nil
	for _, k := range All {
		if k.Of().Optional {
			got = append(got, k.Of().Name)
		}
	}
	for _, r := range slices.Concat(custom.Resources, custom.ForeignPolicies) {
		want = append(want, r.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("custom resources, -want +got:", diff)
	}
}

// TestKindsShareAList: the stores of the kinds of policies fill one list, and each of them
// takes the objects of its own kind only.
func TestKindsShareAList(t *testing.T) {
	o := &translate.Objects{}
	var want, filled, added []string
	for _, k := range All {
		p, ok := k.Object().(*custom.PolicyObject)
		if !ok {
			continue
		}
		name := p.APIVersion + "/" + p.Kind
		want = append(want, name)
		object := &custom.PolicyObject{}
		object.UID = types.UID(name)
		store := k.NewStore(func() {})
		if err := store.Add(object); err != nil {
			t.Fatal(err)
		}
		store.Fill(o)
		for _, other := range All {
			if other.Add(&translate.Objects{}, p) {
				added = append(added, other.Of().GroupVersions()[0].String()+"/"+other.Of().Kind)
			}
		}
	}
	for _, p := range o.PolicyObjects {
		filled = append(filled, p.APIVersion+"/"+p.Kind)
	}
	if diff := cmp.Diff(want, filled); diff != "" || len(want) == 0 {
		t.Error("kinds of the objects of all stores, -want +got:", diff)
	}
	if diff := cmp.Diff(want, added); diff != "" {
		t.Error("kinds that take an object, -want +got:", diff)
	}
}
