package crds

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/internal/crdtext"
)

var scheme = func() *runtime.Scheme {
	s := runtime.NewScheme()
	install.Install(s)
	return s
}()

// definition is a CustomResourceDefinition as an API server has it.
type definition struct {
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	rules      *schemacel.Validator
}

// load reads the definition in a template of the chart, and checks it as an API server does,
// with the cost of its rules.
func load(t *testing.T, template string) *definition {
	t.Helper()
	text, err := crdtext.Read("../../daemonset/chart/underlane/templates", template)
	if err != nil {
		t.Fatal(err)
	}
	var external v1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict([]byte(text), &external); err != nil {
		t.Fatalf("%s: %v", template, err)
	}
	scheme.Default(&external)
	external.Status.StoredVersions = []string{external.Spec.Versions[0].Name}
	var crd apiextensions.CustomResourceDefinition
	if err := scheme.Convert(&external, &crd, nil); err != nil {
		t.Fatal(err)
	}
	if errs := crdvalidation.ValidateCustomResourceDefinition(context.Background(), &crd); len(errs) > 0 {
		t.Fatalf("%s: an API server refuses the definition: %v", template, errs.ToAggregate())
	}
	props, err := apiextensions.GetSchemaForVersion(&crd, external.Spec.Versions[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := structuralschema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	schema, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return &definition{s, schema, schemacel.NewValidator(s, true, celconfig.PerCallLimit)}
}

// create returns what an API server keeps of an object, and why it refuses it. pruned are the
// fields that it drops.
func (d *definition) create(object map[string]any) (pruned []string, err error) {
	pruned = pruning.PruneWithOptions(object, d.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(object, d.structural)
	defaulting.Default(object, d.structural)
	errs := validation.ValidateCustomResource(nil, object, d.schema)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.structural, object)...)
	if len(errs) == 0 {
		var more field.ErrorList
		more, _ = d.rules.Validate(context.Background(), field.NewPath(""), d.structural, object, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, more...)
	}
	if len(errs) > 0 {
		return pruned, fmt.Errorf("%s", strings.ReplaceAll(errs.ToAggregate().Error(), "\n", " "))
	}
	return pruned, nil
}

// object makes an object of YAML.
func object(t *testing.T, head, spec string) map[string]any {
	t.Helper()
	text, err := yaml.YAMLToJSON([]byte(head + spec))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	var o map[string]any
	if err := json.Unmarshal(text, &o); err != nil { // numbers as an API server has them
		t.Fatalf("%s: %v", spec, err)
	}
	return o
}
