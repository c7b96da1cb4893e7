// Package manifest edits streams of Kubernetes manifests (YAML or JSON) as
// texts: what is not to be changed comes out byte for byte as it went in, with
// its comments, its order and its blanks.
package manifest

import (
	"bytes"
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// Change is what is done to everything that pods come from.
type Change struct {
	Labels      map[string]string // set
	Annotations map[string]string // set
	Remove      []string          // keys of labels to remove
}

// Outcome is what became of an object.
type Outcome int

// The outcomes.
const (
	Changed   Outcome = iota
	Unchanged         // it is so already
	Skipped           // nothing that pods come from, or Reason says why
)

// Report is about one object of the stream.
type Report struct {
	Kind, Name string
	Outcome    Outcome
	Reason     string // why it was skipped, where that is not plain
}

var separator = regexp.MustCompile(`(?m)^---[ \t]*(#.*)?(\r?\n|\z)`)

// Apply changes every document of a stream and reports on each object. An error
// names the document that cannot be read, counted from 1.
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
		// A separator before anything else separates nothing.
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
	if len(root.Content) == 0 { // comments
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

// nesting is how deep Lists of Lists are looked into; an alias can make it
// endless.
const nesting = 4

// objects are the paths of the objects of a document: of its root, or of the
// items of a List.
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

// templates is where the kinds that pods come from have the metadata that pods
// get; a pod and a namespace carry it themselves.
var templates = map[string]path{
	"Pod":                   {},
	"Namespace":             {},
	"Deployment":            {"spec", "template"},
	"StatefulSet":           {"spec", "template"},
	"DaemonSet":             {"spec", "template"},
	"ReplicaSet":            {"spec", "template"},
	"ReplicationController": {"spec", "template"},
	"Job":                   {"spec", "template"},
	"Rollout":               {"spec", "template"}, // Argo's
	"CronJob":               {"spec", "jobTemplate", "spec", "template"},
}

// object says what is to be done to the object at a path of a document.
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
		if err := e.possible(root); err != nil { // leave all of it as it is
			r.Outcome, r.Reason = Skipped, err.Error()
			return r, nil
		}
		r.Outcome = Changed
		todo = append(todo, e)
	}
	return r, todo
}
