package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCommitted: the chart has what this program writes.
func TestCommitted(t *testing.T) {
	read := func(dir string) map[string]string {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Base(file)] = string(text)
		}
		return out
	}
	dir := filepath.Join(t.TempDir(), "d")
	if err := write(dir, boards()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(read("../../../daemonset/"+directory), read(dir)); diff != "" {
		t.Errorf("make generate writes them:\n%s", diff)
	}
}

var variableName = regexp.MustCompile(`\$(?:\{(\w+)\}|(\w+))`)

// TestBoards: what Grafana would accept, and show wrongly.
func TestBoards(t *testing.T) {
	uids := map[string]bool{}
	for _, b := range boards() {
		d := b.dashboard()
		t.Run(b.name, func(t *testing.T) {
			if uids[d.UID] || len(d.UID) > 40 {
				t.Errorf("the UID %q is not unique, or has more than 40 characters", d.UID)
			}
			uids[d.UID] = true
			if d.Description == "" {
				t.Error("there is no description")
			}
			known := []string{"__rate_interval"}
			for _, v := range d.Templating.List {
				checkVariables(t, v.Name, v.Definition, known)
				known = append(known, v.Name)
			}
			used := ""
			taken := map[[2]int]string{}
			for i, p := range d.Panels {
				if p.ID != i+1 {
					t.Errorf("panel %d has the id %d", i+1, p.ID)
				}
				for x := range p.GridPos.W {
					for y := range p.GridPos.H {
						at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
						if other := taken[at]; other != "" || at[0] >= columns {
							t.Fatalf("%q is at %v, where %q is, or beyond column %d", p.Title, at, other, columns)
						}
						taken[at] = p.Title
					}
				}
				if p.Type != "row" && len(p.Targets) == 0 {
					t.Errorf("%q has no query", p.Title)
				}
				for _, q := range p.Targets {
					checkVariables(t, p.Title, q.Expr, known)
					checkVariables(t, p.Title, q.LegendFormat, known)
					used += q.Expr + "\n"
					if strings.Count(q.Expr, "(") != strings.Count(q.Expr, ")") || strings.Count(q.Expr, "{") != strings.Count(q.Expr, "}") {
						t.Errorf("%q: brackets do not match in %s", p.Title, q.Expr)
					}
				}
			}
			for _, v := range d.Templating.List {
				inOthers := slices.ContainsFunc(d.Templating.List, func(o variable) bool { return strings.Contains(o.Definition, "$"+v.Name) })
				if v.Type != "datasource" && !inOthers && !strings.Contains(used, "$"+v.Name) {
					t.Errorf("the variable %s is not used", v.Name)
				}
				if v.Multi && strings.Contains(used, `="$`+v.Name+`"`) {
					t.Errorf("several values of %s are compared with =", v.Name)
				}
			}
		})
	}
	if len(uids) < 9 {
		t.Errorf("%d dashboards, want those of docs/grafana.md", len(uids))
	}
}

// checkVariables: Grafana leaves a variable that it does not know in the query.
func checkVariables(t *testing.T, where, text string, known []string) {
	t.Helper()
	for _, m := range variableName.FindAllStringSubmatch(text, -1) {
		if name := m[1] + m[2]; !slices.Contains(known, name) {
			t.Errorf("%q: the variable %s is not defined in %s", where, name, text)
		}
	}
}
