package chart

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Object is one rendered manifest: its text with comments, and the parsed object.
type Object struct {
	unstructured.Unstructured
	Text string // YAML that ends with a line feed, without a separator
}

// order is the order in which kinds are created; other kinds follow. Objects that
// others refer to come first. Workloads come later. The API service comes last,
// because the controller must run to serve it.
var order = []string{
	"Namespace", "CustomResourceDefinition", "ServiceAccount", "Secret", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
	"Service", "PodDisruptionBudget", "Deployment", "DaemonSet", "APIService",
}

func (o *Object) rank() int {
	for i, kind := range order {
		if o.GetKind() == kind {
			return i
		}
	}
	return len(order)
}

var separator = regexp.MustCompile(`(?m)^---[ \t]*\n`)

// split splits a template's output into objects. It omits documents that have only
// blanks and comments.
func split(text string) ([]Object, error) {
	var out []Object
	for _, part := range separator.Split(text, -1) {
		var o Object
		if err := yaml.Unmarshal([]byte(part), &o.Unstructured.Object); err != nil {
			return nil, err
		}
		if len(o.Unstructured.Object) == 0 {
			continue
		}
		if o.GetKind() == "" || o.GetName() == "" {
			return nil, fmt.Errorf("an object without kind or name: %.80q", part)
		}
		o.Text = strings.Trim(part, "\n") + "\n"
		out = append(out, o)
	}
	return out, nil
}

// YAML joins objects into one stream.
func YAML(objects []Object) []byte {
	var b bytes.Buffer
	for i := range objects {
		b.WriteString("---\n")
		b.WriteString(objects[i].Text)
	}
	return b.Bytes()
}

// Sort sorts objects into the order of creation.
func Sort(objects []Object) []Object {
	slices.SortStableFunc(objects, func(a, b Object) int { return a.rank() - b.rank() })
	return objects
}

// NewObject returns an object that is not from the chart, with a comment before it.
func NewObject(comment string, object map[string]any) (Object, error) {
	text, err := yaml.Marshal(object)
	if err != nil {
		return Object{}, err
	}
	return Object{Unstructured: unstructured.Unstructured{Object: object}, Text: comment + string(text)}, nil
}

// JSON returns a List of the objects.
func JSON(objects []Object) ([]byte, error) {
	items := []any{}
	for i := range objects {
		items = append(items, objects[i].Object)
	}
	text, err := json.MarshalIndent(map[string]any{"apiVersion": "v1", "kind": "List", "items": items}, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}
