package watch

import (
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// isForeign reports whether a kind is one of custom.ForeignPolicies, in any version.
func isForeign(apiVersion, kind string) bool {
	gv, err := schema.ParseGroupVersion(apiVersion)
	return err == nil && slices.ContainsFunc(custom.ForeignPolicies, func(r custom.Resource) bool { return r.Group == gv.Group && r.Kind == kind })
}

// decodeMetadata decodes the metadata of an object, and nothing else of it.
func decodeMetadata(asJSON []byte, line int) ([]object, error) {
	o := &metav1.PartialObjectMetadata{}
	if err := json.Unmarshal(asJSON, o); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Kind, err)
	}
	namespaced := o.Namespace
	if err := check(o, o.Kind); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Kind, err)
	}
	// Which of these kinds have a namespace depends on the API server that is not there:
	// without one, the object counts for all pods.
	o.Namespace = namespaced
	return []object{{Object: o, kind: o.Kind + "." + o.GroupVersionKind().Group, line: line}}, nil
}
