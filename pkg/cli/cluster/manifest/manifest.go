// Package manifest edits streams of Kubernetes manifests (YAML or JSON) as texts.
// The parts that it does not edit stay the same byte for byte, with their comments,
// order and blanks.
package manifest

import (
	"bytes"
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// Change is the edit of every object that creates pods.
type Change struct {
	Labels      map[string]string // to set
	Annotations map[string]string // to set
	Remove      []string          // keys of labels to remove
}

// Outcome is the result for an object.
type Outcome int

// The outcomes.
const (
	Changed   Outcome = iota
	Unchanged         // the object already has the values
	Skipped           // the object creates no pods, or Reason says why
)

// Report is the result for one object of the stream.
type Report struct {
	Kind, Name string
	Outcome    Outcome
	Reason     string // why it was skipped, if the kind alone does not explain it
}

var separator = regexp.MustCompile(`(?m)^---[ \t]*(#.*)?(\r?\n|\z)`)

// Apply edits every document of a stream and returns a Report for each object. If a
// document cannot be read, the error has its number, counted from 1.
func (c *Change) Apply(stream []byte) ([]byte, []Report, error) {
	var out bytes.Buffer
	var reports []Report
	at, number := 0, 0
	document := func(text []byte) error {
		number++
		changed, more, err := c.document(text)
		if err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		out.Write(changed)
		reports = append(reports, more...)
		return nil
	}
	for _, mark := range separator.FindAllIndex(stream, -1) {
		// A separator before the first document has no effect.
		if text := stream[at:mark[0]]; len(bytes.TrimSpace(text)) > 0 {
			if err := document(text); err != nil {
				return nil, nil, err
			}
		} else {
			out.Write(text)
		}
		out.Write(stream[mark[0]:mark[1]])
		at = mark[1]
	}
	if text := stream[at:]; len(bytes.TrimSpace(text)) > 0 {
		if err := document(text); err != nil {
			return nil, nil, err
		}
	}
	return out.Bytes(), reports, nil
}

// document changes one document.
func (c *Change) document(text []byte) ([]byte, []Report, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, nil, err
	}
	if len(root.Content) == 0 { // only comments
		return text, nil, nil
	}
	var reports []Report
	var todo []edit
	for _, at := range objects(root.Content[0], nil) {
		report, edits := c.object(root.Content[0], at)
		reports = append(reports, report)
		todo = append(todo, edits...)
	}
	changed, err := apply(text, &root, todo)
	return changed, reports, err
}

// nesting limits the depth of Lists in Lists. An alias can make the depth infinite.
const nesting = 4

// objects returns the paths of the objects of a document: the root, or the items of
// a List.
func objects(root *yaml.Node, at path) []path {
	items := path{"items"}.get(root)
	if items == nil || items.Kind != yaml.SequenceNode || str(root, "kind") == "" || len(at) >= 2*nesting {
		return []path{at}
	}
	var out []path
	for i := range items.Content {
		out = append(out, objects(items.Content[i], at.join("items", i))...)
	}
	return out
}

// templates has the path to the metadata of the pods for each kind that creates
// pods. Pods and namespaces have it themselves.
var templates = map[string]path{
	"Pod":                   {},
	"Namespace":             {},
	"Deployment":            {"spec", "template"},
	"StatefulSet":           {"spec", "template"},
	"DaemonSet":             {"spec", "template"},
	"ReplicaSet":            {"spec", "template"},
	"ReplicationController": {"spec", "template"},
	"Job":                   {"spec", "template"},
	"Rollout":               {"spec", "template"}, // Argo Rollouts
	"CronJob":               {"spec", "jobTemplate", "spec", "template"},
}

// object returns the edits for the object at a path of a document.
func (c *Change) object(root *yaml.Node, at path) (Report, []edit) {
	o := at.get(root)
	r := Report{Kind: str(o, "kind"), Name: str(path{"metadata"}.get(o), "name"), Outcome: Skipped}
	if r.Kind == "" {
		r.Reason = `it has no "kind"`
		return r, nil
	}
	template, ok := templates[r.Kind]
	if !ok {
		return r, nil
	}
	if r.Name == "" {
		r.Name = str(path{"metadata"}.get(o), "generateName")
	}
	if t := template.get(o); t == nil || t.Kind != yaml.MappingNode {
		r.Reason = "it has no pod template"
		return r, nil
	}
	if len(c.Labels) > 0 && str(template.join("spec").get(o), "hostNetwork") == "true" {
		r.Reason = "its pods use the host's network"
		return r, nil
	}
	r.Outcome = Unchanged
	var todo []edit
	for _, e := range c.edits(at.join(template...)) {
		if e.already(root) {
			continue
		}
		if err := e.possible(root); err != nil { // leave the whole object unchanged
			r.Outcome, r.Reason = Skipped, err.Error()
			return r, nil
		}
		r.Outcome = Changed
		todo = append(todo, e)
	}
	return r, todo
}
