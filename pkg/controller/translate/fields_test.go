package translate_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"
)

// fieldsOf returns the paths of all fields of a type, as JSON has them.
func fieldsOf(t reflect.Type, path string) (out []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() == "k8s.io/apimachinery/pkg/apis/meta/v1" {
		return []string{path}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			out = append(out, fieldsOf(f.Type, path)...)
			continue
		}
		out = append(out, fieldsOf(f.Type, path+"."+name)...)
	}
	return out
}

// TestFieldsAreDecided: a field that is not known refuses. A newer version of the library of the Gateway API
// knows more: somebody has to decide what becomes of each field, before it is added to the list.
func TestFieldsAreDecided(t *testing.T) {
	var got []string
	for kind, spec := range map[string]any{
		"HTTPRoute": gatewayv1.HTTPRouteSpec{}, "GRPCRoute": gatewayv1.GRPCRouteSpec{}, "TLSRoute": gatewayv1.TLSRouteSpec{},
		"TCPRoute": gatewayv1.TCPRouteSpec{}, "XBackendTrafficPolicy": gatewayx.BackendTrafficPolicySpec{},
	} {
		got = append(got, fieldsOf(reflect.TypeOf(spec), kind)...)
	}
	slices.Sort(got)
	path := "testdata/fields.golden"
	if *update {
		if err := os.WriteFile(path, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Fields(string(want)), got); diff != "" {
		t.Errorf("fields that nobody has decided about, -list +library:\n%s", diff)
	}
}
