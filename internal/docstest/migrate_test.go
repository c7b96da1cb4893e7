package docstest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/controller/custom"
)

var (
	objectRow = regexp.MustCompile("(?m)^\\| `([A-Za-z]+)` \\(`([a-z0-9.-]+)`\\) \\| ([a-z ]+) \\|")
	// An annotation or a label has a slash, but for one of Istio's.
	metaRow = regexp.MustCompile("(?m)^\\| `((?:[a-z0-9.-]+/[A-Za-z0-9-]+)|istio-injection)` \\| ([a-z ]+) \\|")
)

// migration compares a page's tables with what the controller watches, and with the names of
// annotations and labels in the sources.
func migration(page string, watched func(kind, group string) bool, inMesh, inCheck func(name string) bool) (rows int, wrong []string) {
	for _, m := range objectRow.FindAllStringSubmatch(page, -1) {
		rows++
		want := "not read"
		if watched(m[1], m[2]) {
			want = "read"
		}
		if m[3] != want {
			wrong = append(wrong, fmt.Sprintf("%s of %s is said to be %s, want %s", m[1], m[2], m[3], want))
		}
	}
	for _, m := range metaRow.FindAllStringSubmatch(page, -1) {
		rows++
		want := "not read"
		switch {
		case inMesh(m[1]):
			want = "read"
		case inCheck(m[1]):
			want = "checked"
		}
		if m[2] != want {
			wrong = append(wrong, fmt.Sprintf("%s is said to be %s, want %s", m[1], m[2], want))
		}
	}
	return rows, wrong
}

// TestMigrationTables: what the pages on other meshes say is read, is.
func TestMigrationTables(t *testing.T) {
	var mesh, check strings.Builder
	for _, p := range files(t, ".go") {
		switch {
		case strings.HasSuffix(p, "_test.go") || !strings.HasPrefix(p, "pkg/"):
		case strings.HasPrefix(p, filepath.Join("pkg", "cli")):
			check.WriteString(read(t, p))
		default:
			mesh.WriteString(read(t, p))
		}
	}
	quoted := func(text *strings.Builder) func(string) bool {
		all := text.String()
		return func(name string) bool { return strings.Contains(all, `"`+name+`"`) }
	}
	watched := func(kind, group string) bool {
		return slices.ContainsFunc(custom.Resources, func(r custom.Resource) bool { return r.Kind == kind && r.Group == group })
	}
	linkerd, istio := read(t, "docs/migrate-linkerd.md"), read(t, "docs/migrate-istio.md")
	for name, page := range map[string]string{"migrate-linkerd.md": linkerd, "migrate-istio.md": istio} {
		rows, wrong := migration(page, watched, quoted(&mesh), quoted(&check))
		for _, w := range wrong {
			t.Errorf("%s: %s", name, w)
		}
		if rows < 25 {
			t.Errorf("%s has %d rows that are compared, want 25 or more: has their form changed?", name, rows)
		}
	}
	// What is watched of the other meshes is on their pages.
	for _, r := range custom.Resources {
		page, ours := linkerd, true
		switch r.Group {
		case custom.IstioGroup:
			page = istio
		case custom.LinkerdGroup, custom.SplitGroup, custom.SpecsGroup, custom.GatewayGroup:
		default:
			ours = false
		}
		if row := fmt.Sprintf("\n| `%s` (`%s`) | read |", r.Kind, r.Group); ours && !strings.Contains(page, row) {
			t.Errorf("%s of %s is read, and no page on another mesh has the row %q", r.Kind, r.Group, row)
		}
	}
	// What to write instead exists.
	known := firsts(t, `"((?:[a-z]+\.)?underlane\.io/[a-z-]+)"`, read(t, "pkg/mesh/annotation.go"))
	for _, name := range firsts(t, "`((?:[a-z]+\\.)?underlane\\.io/[a-z-]+)(?:: [^`]*)?`", linkerd+istio) {
		if !slices.Contains(known, name) {
			t.Errorf("a page on another mesh names %s, which the code has not", name)
		}
	}
}

// TestMigrationTablesCanFail feeds the comparison what it must refuse.
func TestMigrationTablesCanFail(t *testing.T) {
	watched := func(kind, group string) bool { return kind == "Server" && group == "policy.linkerd.io" }
	is := func(names ...string) func(string) bool {
		return func(name string) bool { return slices.Contains(names, name) }
	}
	for row, want := range map[string]string{
		"| `Server` (`policy.linkerd.io`) | read | x |":        "",
		"| `Server` (`policy.linkerd.io`) | not read | x |":    "Server of policy.linkerd.io is said to be not read, want read",
		"| `ServiceProfile` (`linkerd.io`) | read | x |":       "ServiceProfile of linkerd.io is said to be read, want not read",
		"| `linkerd.io/inject` | checked | x |":                "",
		"| `linkerd.io/inject` | read | x |":                   "linkerd.io/inject is said to be read, want checked",
		"| `istio-injection` | checked | x |":                  "istio-injection is said to be checked, want not read",
		"| `config.linkerd.io/proxyCPU` | read | x |":          "config.linkerd.io/proxyCPU is said to be read, want not read",
		"| `config.linkerd.io/default` | not read | nothing |": "config.linkerd.io/default is said to be not read, want read",
		"| `config.linkerd.io/default` | read | nothing | x |": "",
	} {
		rows, wrong := migration(row, watched, is("config.linkerd.io/default"), is("linkerd.io/inject"))
		if rows != 1 || strings.Join(wrong, "; ") != want {
			t.Errorf("%s: %d rows, %q; want %q", row, rows, wrong, want)
		}
	}
}
