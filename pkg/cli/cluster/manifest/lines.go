package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// splice replaces lines of a text.
type splice struct {
	first, count int  // lines to remove, counted from 0
	missing      path // steps of the path for which new mappings are written first
	indent       int
	key, value   string // the line to write after them; none when key is empty
}

// inLines makes the edits by adding, replacing or deleting whole lines. It returns
// nil when that is not possible. In rare cases the result is wrong, so the caller
// compares it with the tree.
func inLines(text []byte, root *yaml.Node, edits []edit) []byte {
	all := bytes.SplitAfter(text, []byte("\n"))
	if last := len(all) - 1; len(all[last]) == 0 {
		all = all[:last]
	} else {
		all[last] = append(slices.Clone(all[last]), '\n')
	}
	var splices []splice
	for i := range edits {
		s, ok := edits[i].splice(all, root)
		if !ok {
			return nil
		}
		splices = append(splices, s)
	}
	slices.SortStableFunc(splices, func(a, b splice) int { return cmp.Compare(a.first, b.first) })
	var out bytes.Buffer
	at := 0
	for i, s := range splices {
		if s.first < at {
			return nil
		}
		out.Write(bytes.Join(all[at:s.first], nil))
		at = s.first + s.count
		have := 0 // steps that the splice before has just written
		if i > 0 && splices[i-1].first == s.first && splices[i-1].indent == s.indent {
			for have < len(s.missing) && have < len(splices[i-1].missing) && s.missing[have] == splices[i-1].missing[have] {
				have++
			}
		}
		s.write(&out, have)
	}
	out.Write(bytes.Join(all[at:], nil))
	return out.Bytes()
}

func (s *splice) write(out *bytes.Buffer, have int) {
	if s.key == "" {
		return
	}
	for i, step := range s.missing {
		if i >= have {
			fmt.Fprintf(out, "%s%v:\n", strings.Repeat(" ", s.indent+2*i), step)
		}
	}
	fmt.Fprintf(out, "%s%s: %s\n", strings.Repeat(" ", s.indent+2*len(s.missing)), s.key, scalar(s.value))
}

func (e *edit) splice(all [][]byte, root *yaml.Node) (splice, bool) {
	// Find the deepest existing mapping of the path.
	var parent *yaml.Node
	n, depth := root, 0
	for depth < len(e.at) {
		next := path{e.at[depth]}.get(n)
		if next == nil {
			break
		}
		parent, n, depth = n, next, depth+1
	}
	if n.Kind != yaml.MappingNode || n.Style&yaml.FlowStyle != 0 {
		return splice{}, false
	}
	if key := keyNode(n, e.key); key != nil && depth == len(e.at) {
		return e.spliceKey(all, parent, n, key)
	}
	// Insert before a key that starts its line. Comments above the key stay with it.
	for i := 0; i < len(n.Content); i += 2 {
		if line := n.Content[i].Line - 1; startsLine(all, n.Content[i]) {
			for line > 0 && bytes.HasPrefix(bytes.TrimSpace(all[line-1]), []byte("#")) {
				line--
			}
			return splice{first: line, missing: e.at[depth:], indent: n.Content[i].Column - 1, key: e.key, value: e.value}, true
		}
	}
	return splice{}, false
}

// spliceKey changes or deletes the line of a key. If the mapping has no other key,
// it also deletes the line of the mapping.
func (e *edit) spliceKey(all [][]byte, parent, n, key *yaml.Node) (splice, bool) {
	if !startsLine(all, key) {
		return splice{}, false
	}
	line := key.Line - 1
	if !e.remove {
		return splice{first: line, count: 1, indent: key.Column - 1, key: e.key, value: e.value}, true
	}
	if len(n.Content) > 2 {
		return splice{first: line, count: 1}, true
	}
	name := keyNode(parent, fmt.Sprint(e.at[len(e.at)-1]))
	if len(parent.Content) == 2 || name.Line-1 != line-1 || !startsLine(all, name) {
		return splice{}, false
	}
	return splice{first: line - 1, count: 2}, true
}

// startsLine reports whether only blanks precede the key in its line.
func startsLine(all [][]byte, key *yaml.Node) bool {
	line, indent := key.Line-1, key.Column-1
	return line >= 0 && line < len(all) && indent <= len(all[line]) && len(bytes.TrimSpace(all[line][:indent])) == 0
}

// scalar returns a string as a YAML value on one line.
func scalar(s string) string {
	out, err := yaml.Marshal(s)
	if err != nil {
		return fmt.Sprintf("%q", s)
	}
	return strings.TrimSuffix(string(out), "\n")
}
