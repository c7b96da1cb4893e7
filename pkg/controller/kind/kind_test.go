package kind

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// TestKindsAreComplete: each list of translate.Objects is filled by a kind, and
// each resource of package custom has one.
func TestKindsAreComplete(t *testing.T) {
	objects := reflect.TypeFor[translate.Objects]()
	var got, want []string
	for i := range objects.NumField() {
		want = append(want, objects.Field(i).Name)
	}
	for _, k := range All {
		o := &translate.Objects{}
		k.Add(o, k.Object())
		for i := range objects.NumField() {
			if reflect.ValueOf(o).Elem().Field(i).Len() > 0 {
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
	for _, r := range custom.Resources {
		want = append(want, r.Name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("custom resources, -want +got:", diff)
	}
}
