package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// edit sets or removes one key of a mapping of strings.
type edit struct {
	at     path // of the mapping, which is created if it is missing
	key    string
	value  string
	remove bool
}

// edits returns c's edits of the object or template at a path, in a fixed order.
func (c *Change) edits(at path) []edit {
	var out []edit
	set := func(field string, values map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			out = append(out, edit{at: at.join("metadata", field), key: key, value: values[key]})
		}
	}
	set("labels", c.Labels)
	set("annotations", c.Annotations)
	for _, key := range c.Remove {
		out = append(out, edit{at: at.join("metadata", "labels"), key: key, remove: true})
	}
	return out
}

// apply makes the edits in a text and its tree. It changes only lines of the text
// if that is possible. Otherwise (flow style, JSON, aliases) it writes the whole
// document again. In both cases the tree determines the correct result.
func apply(text []byte, root *yaml.Node, edits []edit) ([]byte, error) {
	if len(edits) == 0 {
		return text, nil
	}
	lines := inLines(text, root.Content[0], edits) // computed before the tree changes
	for i := range edits {
		edits[i].inTree(root.Content[0])
	}
	if lines != nil {
		var want, got any
		if err := root.Decode(&want); err != nil {
			return nil, err
		}
		if yaml.Unmarshal(lines, &got) == nil && reflect.DeepEqual(want, got) {
			return lines, nil
		}
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	var pretty bytes.Buffer
	if json.Valid(text) && json.Indent(&pretty, out.Bytes(), "", "    ") == nil {
		return pretty.Bytes(), nil // in kubectl's format
	}
	return out.Bytes(), nil
}

func (e *edit) already(root *yaml.Node) bool {
	v := e.at.join(e.key).get(root)
	if e.remove {
		return v == nil
	}
	return v != nil && v.Kind == yaml.ScalarNode && v.Value == e.value
}

// possible returns why an edit cannot be made.
func (e *edit) possible(root *yaml.Node) error {
	for i := range len(e.at) + 1 {
		n := e.at[:i].get(root)
		name := e.at[max(i, 1)-1]
		switch {
		case n == nil || n.Tag == "!!null":
			return nil
		case n.Anchor != "":
			return fmt.Errorf("line %d: %v has the YAML anchor &%s: the change would also be one of what refers to it: write it out", n.Line, name, n.Anchor)
		case n.Kind == yaml.AliasNode && (e.remove || i < len(e.at) || n.Alias.Kind != yaml.MappingNode):
			return fmt.Errorf("line %d: %v is a YAML alias: write it out", n.Line, name)
		case n.Kind == yaml.ScalarNode, n.Kind == yaml.SequenceNode && (i == len(e.at) || !isIndex(e.at[i])):
			return fmt.Errorf("line %d: %v is no mapping", n.Line, name)
		}
	}
	return nil
}

func isIndex(step any) bool { _, ok := step.(int); return ok }

// inTree makes the edit in the tree. The caller has checked that it is possible.
func (e *edit) inTree(root *yaml.Node) {
	var parent *yaml.Node
	n := root
	for _, step := range e.at {
		next := path{step}.get(n)
		if next == nil || next.Tag == "!!null" {
			next = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: n.Style & yaml.FlowStyle}
			put(n, step.(string), next)
		}
		if next.Kind == yaml.AliasNode {
			// Merge the alias' keys with the new one.
			alias := *next
			*next = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!merge", Value: "<<"}, &alias}}
		}
		parent, n = n, next
	}
	if e.remove {
		drop(n, e.key)
		if len(n.Content) == 0 {
			drop(parent, e.at[len(e.at)-1].(string))
		}
		return
	}
	style := yaml.Style(0)
	if n.Style&yaml.FlowStyle != 0 {
		style = yaml.DoubleQuotedStyle // in JSON strings need quotes
	}
	put(n, e.key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: e.value, Style: style})
}
