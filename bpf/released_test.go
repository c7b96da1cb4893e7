package bpf

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/underlane/underlane/test/released"
)

// padding matches a field of zeros, which a later version may use: there, zero has to stand
// for what the version before does.
var padding = regexp.MustCompile(`\.pad(\[0\])?:`)

// A pinned map whose sizes are those of the release before keeps its content in an upgrade.
// So its fields must be at the same places. docs/versions.md names the others, which begin
// empty.
func TestFullMapsOfReleaseBefore(t *testing.T) {
	last := released.Last()
	cmd := exec.CommandContext(t.Context(), "git", "show", last.Commit+":bpf/underlane_bpfel.o")
	cmd.Stderr = t.Output()
	object, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: is this a shallow clone? git fetch --unshallow", err)
	}
	before, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	now, err := LoadUnderlane()
	if err != nil {
		t.Fatal(err)
	}
	var others []string
	compared := 0
	for name, a := range before.Maps {
		b := now.Maps[name]
		if b == nil || a.Pinning != ebpf.PinByName || b.Pinning != ebpf.PinByName {
			continue
		}
		if sizes(a) != sizes(b) {
			others = append(others, "`"+name+"`")
			continue
		}
		compared++
		for what, types := range map[string][2]btf.Type{"key": {a.Key, b.Key}, "value": {a.Value, b.Value}} {
			here := fields(types[1], 0, what)
			for _, f := range fields(types[0], 0, what) {
				if !padding.MatchString(f) && !slices.Contains(here, f) {
					t.Errorf("%s keeps what %s has written, and reads it otherwise: then %q, now\n%s", name, last.Version, f, strings.Join(here, "\n"))
				}
			}
		}
	}
	if compared < 5 {
		t.Errorf("only %d maps are alike", compared)
	}
	slices.Sort(others)
	page, err := os.ReadFile("../docs/versions.md")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(?m)^From ` + regexp.QuoteMeta(last.Version) + ` to v\S+ only (.*) (?:is|are) laid out differently`).FindSubmatch(page)
	if want := strings.Join(others, ", "); said == nil || string(said[1]) != want {
		t.Errorf("docs/versions.md has to say that from %s on only %s are laid out differently", last.Version, want)
	}
}

// sizes is what the kernel compares of a pinned map.
func sizes(m *ebpf.MapSpec) string {
	return fmt.Sprint(m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
}

// fields lists the fields of a type with their offsets and sizes, in bytes or bits.
func fields(t btf.Type, at uint32, name string) []string {
	if t == nil {
		return nil
	}
	t = btf.UnderlyingType(t)
	var members []btf.Member
	switch t := t.(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	case *btf.Array:
		size, err := btf.Sizeof(t)
		if err != nil {
			return []string{name + ": " + err.Error()}
		}
		return append([]string{fmt.Sprintf("%s: array of %d, %d bytes at %d", name, t.Nelems, size, at)}, fields(t.Type, at, name+"[0]")...)
	default:
		size, err := btf.Sizeof(t)
		if err != nil {
			return []string{name + ": " + err.Error()}
		}
		return []string{fmt.Sprintf("%s: %d bytes at %d", name, size, at)}
	}
	var all []string
	for _, m := range members {
		if m.BitfieldSize > 0 {
			all = append(all, fmt.Sprintf("%s.%s: %d bits at bit %d", name, m.Name, m.BitfieldSize, at*8+uint32(m.Offset)))
			continue
		}
		all = append(all, fields(m.Type, at+m.Offset.Bytes(), name+"."+m.Name)...)
	}
	return all
}
