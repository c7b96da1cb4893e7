package ownpolicy

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/internal/crdtext"
)

// schema is what is read of an OpenAPI schema.
type schema struct {
	Type                 string             `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties *schema            `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	Enum                 []string           `json:"enum"`
	MaxLength            *int               `json:"maxLength"`
	MaxItems             *int               `json:"maxItems"`
	Preserve             bool               `json:"x-kubernetes-preserve-unknown-fields"`
}

// TestSchema: the CustomResourceDefinition has the fields of the Go types. Objects keep fields
// that are not known, so that the translation sees them: an API server would remove
// them, and the rule would match more. Everything that CEL walks through is bounded.
func TestSchema(t *testing.T) {
	testSchema(t, "authorizationpolicy.yaml", v1alpha1.Kind, v1alpha1.Resource, reflect.TypeFor[v1alpha1.AuthorizationPolicySpec]())
	testSchema(t, "ratelimitpolicy.yaml", v1alpha1.RateLimitKind, v1alpha1.RateLimitResource, reflect.TypeFor[v1alpha1.RateLimitPolicySpec]())
}

func testSchema(t *testing.T, file, kind, resource string, of reflect.Type) {
	text, err := crdtext.Read("../../../daemonset/chart/underlane/templates", file)
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Metadata struct{ Name string }
		Spec     struct {
			Group    string
			Names    struct{ Kind, Plural string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema schema `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(text), &crd); err != nil {
		t.Fatal(err)
	}
	got := []string{crd.Metadata.Name, crd.Spec.Group, crd.Spec.Names.Kind, crd.Spec.Names.Plural, crd.Spec.Versions[0].Name}
	want := []string{resource + "." + v1alpha1.Group, v1alpha1.Group, kind, resource, v1alpha1.Version}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-types +schema):\n%s", diff)
	}
	spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	checkSchema(t, "spec", spec, of)
}

func checkSchema(t *testing.T, at string, s *schema, typ reflect.Type) {
	if s == nil {
		t.Errorf("%s: is not in the schema", at)
		return
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch typ.Kind() {
	case reflect.Struct:
		if s.Type != "object" || !s.Preserve {
			t.Errorf("%s: got %s, preserving unknown fields: %v; want an object that does", at, s.Type, s.Preserve)
		}
		fields := map[string]reflect.Type{}
		for _, f := range reflect.VisibleFields(typ) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields[name] = f.Type
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("%s (-types +schema):\n%s", at, diff)
		}
		for name, f := range fields {
			checkSchema(t, at+"."+name, s.Properties[name], f)
		}
	case reflect.Slice:
		if s.Type != "array" || s.MaxItems == nil {
			t.Errorf("%s: got %s with the bound %v, want a bounded array", at, s.Type, s.MaxItems)
		}
		checkSchema(t, at+"[]", s.Items, typ.Elem())
	case reflect.Map:
		checkSchema(t, at+"{}", s.AdditionalProperties, typ.Elem())
	case reflect.String:
		if s.Type != "string" || s.MaxLength == nil && len(s.Enum) == 0 {
			t.Errorf("%s: got %s, bound %v, want a bounded string", at, s.Type, s.MaxLength)
		}
	default:
		if s.Type != "integer" {
			t.Errorf("%s: got %s, want integer", at, s.Type)
		}
	}
}
