package manifest

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// path leads from a node to a node below it. A string is a key of a mapping, an int
// is an index of a sequence.
type path []any

func (p path) join(more ...any) path {
	return append(append(path{}, p...), more...)
}

// get returns the node at the path, nil if there is none.
func (p path) get(n *yaml.Node) *yaml.Node {
	for _, step := range p {
		if n == nil {
			return nil
		}
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		switch s := step.(type) {
		case string:
			n = value(n, s)
		case int:
			if n.Kind != yaml.SequenceNode || s >= len(n.Content) {
				return nil
			}
			n = n.Content[s]
		}
	}
	return n
}

// value returns the value of a key of a mapping.
func value(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// keyNode returns the node of a mapping's key.
func keyNode(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i]
		}
	}
	return nil
}

// str returns the text of the scalar at a key, "" if there is none.
func str(n *yaml.Node, key string) string {
	if n == nil {
		return ""
	}
	v := path{key}.get(n)
	if v == nil || v.Kind != yaml.ScalarNode {
		return ""
	}
	return v.Value
}

// put sets a key of a mapping.
func put(n *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = value
			return
		}
	}
	k := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}
	if n.Style&yaml.FlowStyle != 0 {
		k.Style = yaml.DoubleQuotedStyle
	}
	n.Content = append(n.Content, k, value)
}

// drop removes a key of a mapping.
func drop(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}
