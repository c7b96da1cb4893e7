package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
)

// Edits are changes to the header fields of a message. The fields of Remove are
// removed first; then those of Add are appended. All names are in lower case.
type Edits struct {
	Remove []string
	Add    []mesh.HeaderField
}

// Empty reports whether there is nothing to change.
func (e *Edits) Empty() bool { return len(e.Remove) == 0 && len(e.Add) == 0 }

// with returns edits that apply e and then m. It does not change e.
func (e Edits) with(m *mesh.HeaderModifier) (Edits, error) {
	if m == nil {
		return e, nil
	}
	e = Edits{slices.Clone(e.Remove), slices.Clone(e.Add)}
	seen := make(map[string]int) // name → number of the list of m that has it
	// first reports whether f is the first field of that name in its list. Only
	// the first one is applied.
	first := func(list int, f *mesh.HeaderField) (bool, error) {
		f.Name = strings.ToLower(f.Name)
		if err := CheckHeader(f.Name, f.Value); err != nil {
			return false, err
		}
		was, again := seen[f.Name]
		seen[f.Name] = list
		if again && was != list {
			return false, fmt.Errorf("header %q: more than one action", f.Name)
		}
		return !again, nil
	}
	for _, f := range m.Set {
		ok, err := first(1, &f)
		if err != nil {
			return Edits{}, err
		}
		if ok {
			e.remove(f.Name)
			e.Add = append(e.Add, f)
		}
	}
	for _, f := range m.Add {
		ok, err := first(2, &f)
		if err != nil {
			return Edits{}, err
		}
		if ok {
			e.Add = append(e.Add, f)
		}
	}
	for _, name := range m.Remove {
		f := mesh.HeaderField{Name: name}
		ok, err := first(3, &f)
		if err != nil {
			return Edits{}, err
		}
		if ok {
			e.remove(f.Name)
		}
	}
	return e, nil
}

func (e *Edits) remove(name string) {
	e.Add = slices.DeleteFunc(e.Add, func(f mesh.HeaderField) bool { return f.Name == name })
	if !slices.Contains(e.Remove, name) {
		e.Remove = append(e.Remove, name)
	}
}
