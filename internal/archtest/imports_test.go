package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestLayers(t *testing.T) { report(t, layerViolations(packages(t))) }

func layerViolations(pkgs []pkg) (out []string) {
	used := map[[2]string]bool{}
	present := map[string]bool{}
	for _, p := range pkgs {
		present[p.Path] = true
		from, ok := layer(p.Path)
		if !ok {
			out = append(out, fmt.Sprintf("%s is in no layer: place it in the table of internal/archtest", p.Path))
			continue
		}
		for _, imp := range p.Imports {
			to, ok := layer(imp)
			if !ok || sameFamily(p.Path, imp) || to < from {
				continue
			}
			edge := [2]string{p.Path, imp}
			if _, ok := sideways[edge]; ok && to == from {
				used[edge] = true
				continue
			}
			out = append(out, fmt.Sprintf("%s (layer %d) imports %s (layer %d): imports go downward only", p.Path, from, imp, to))
		}
	}
	for edge := range sideways {
		if present[edge[0]] && !used[edge] {
			out = append(out, fmt.Sprintf("%s no longer imports %s: drop the exception", edge[0], edge[1]))
		}
	}
	return out
}

// layer is that of the longest table entry holding path. Sub-packages of pkg
// are placed by name, so that each new one is thought about.
func layer(path string) (int, bool) {
	if l, ok := layers[path]; ok {
		return l, true
	}
	if within(path, "pkg") && !within(path, "pkg/redirect/netns") {
		return 0, false
	}
	for dir, _, found := cutLast(path); found; dir, _, found = cutLast(dir) {
		if l, ok := layers[dir]; ok {
			return l, true
		}
	}
	return 0, false
}

func sameFamily(a, b string) bool {
	return slices.ContainsFunc(families, func(f string) bool { return within(a, f) && within(b, f) })
}

func TestOrders(t *testing.T) { report(t, orderViolations(packages(t))) }

// orderViolations finds imports within an ordered family that do not go down.
func orderViolations(pkgs []pkg) (out []string) {
	for family, rows := range orders {
		row := func(path string) int {
			name := strings.TrimPrefix(path, family+"/")
			if name == path { // the family's own package
				return len(rows)
			}
			return slices.IndexFunc(rows, func(names []string) bool { return slices.Contains(names, name) })
		}
		for _, p := range pkgs {
			if !within(p.Path, family) {
				continue
			}
			from := row(p.Path)
			if from < 0 {
				out = append(out, fmt.Sprintf("%s has no place in the order of %s", p.Path, family))
				continue
			}
			for _, imp := range p.Imports {
				if within(imp, family) && row(imp) >= from {
					out = append(out, fmt.Sprintf("%s imports %s, which is not below it in the order of %s", p.Path, imp, family))
				}
			}
		}
	}
	return out
}

func TestOnlyIn(t *testing.T) { report(t, onlyInViolations(packages(t))) }

func onlyInViolations(pkgs []pkg) (out []string) {
	for _, p := range pkgs {
		for _, rule := range onlyIn {
			for _, imp := range p.Imports {
				if within(imp, rule.imports...) && !within(p.Path, rule.in...) {
					out = append(out, fmt.Sprintf("%s imports %s, allowed in %s: %s", p.Path, imp, strings.Join(rule.in, ", "), rule.why))
				}
			}
		}
	}
	return out
}

func TestNever(t *testing.T) { report(t, neverViolations(packages(t))) }

func neverViolations(pkgs []pkg) (out []string) {
	for _, p := range pkgs {
		for _, rule := range never {
			if !within(p.Path, rule.from...) || within(p.Path, rule.except...) {
				continue
			}
			for _, dep := range p.Deps {
				if within(dep, rule.deps...) {
					out = append(out, fmt.Sprintf("%s depends on %s: %s", p.Path, dep, rule.why))
				}
			}
		}
	}
	return out
}

func TestLeafImportsOnlyTheStandardLibrary(t *testing.T) {
	for _, p := range packages(t) {
		if p.Path != "pkg/mesh" {
			continue
		}
		for _, imp := range p.Imports {
			if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") || within(imp, "pkg", "api", "bpf") {
				t.Errorf("%s imports %s: it is a leaf", p.Path, imp)
			}
		}
	}
}

func TestPurePackages(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.Path) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(impure, imp) || within(imp, "golang.org/x/sys") {
				t.Errorf("%s imports %s: it is pure", p.Path, imp)
			}
		}
	}
}

// TestImportRulesCanFail feeds the rules what they must refuse.
func TestImportRulesCanFail(t *testing.T) {
	for name, tc := range map[string]struct {
		check func([]pkg) []string
		p     pkg
	}{
		"unplaced":          {layerViolations, pkg{Path: "pkg/novelty"}},
		"unplaced below":    {layerViolations, pkg{Path: "pkg/state/novelty"}},
		"upward":            {layerViolations, pkg{Path: "pkg/state", Imports: []string{"pkg/agent"}}},
		"sideways":          {layerViolations, pkg{Path: "pkg/state", Imports: []string{"pkg/mtls"}}},
		"proxy to redirect": {layerViolations, pkg{Path: "pkg/l7proxy", Imports: []string{"pkg/redirect"}}},
		"upward in order":   {orderViolations, pkg{Path: "pkg/l7proxy/upstream", Imports: []string{"pkg/l7proxy/request"}}},
		"beside in order":   {orderViolations, pkg{Path: "pkg/l7proxy/h1", Imports: []string{"pkg/l7proxy/h2"}}},
		"own package":       {orderViolations, pkg{Path: "pkg/l7proxy/h1", Imports: []string{"pkg/l7proxy"}}},
		"out of order":      {orderViolations, pkg{Path: "pkg/l7proxy/novelty"}},
		"stale exception":   {layerViolations, pkg{Path: "pkg/redirect/netns"}},
		"ebpf":              {onlyInViolations, pkg{Path: "pkg/agent", Imports: []string{"github.com/cilium/ebpf/link"}}},
		"netlink":           {onlyInViolations, pkg{Path: "pkg/listener", Imports: []string{"github.com/vishvananda/netlink"}}},
		"kubernetes":        {onlyInViolations, pkg{Path: "pkg/state", Imports: []string{"k8s.io/api/core/v1"}}},
		"prometheus":        {onlyInViolations, pkg{Path: "pkg/tap", Imports: []string{"github.com/prometheus/client_golang/prometheus"}}},
		"signing agent":     {neverViolations, pkg{Path: "pkg/agent", Deps: []string{"pkg/control", "pkg/mtls/ca"}}},
		"serving agent":     {neverViolations, pkg{Path: "pkg/agent", Deps: []string{"pkg/control/client", "pkg/control/server"}}},
		"grpc in proxy":     {neverViolations, pkg{Path: "pkg/l7proxy/upstream", Deps: []string{"google.golang.org/grpc"}}},
		"proxy on redirect": {neverViolations, pkg{Path: "pkg/l7proxy", Deps: []string{"pkg/redirect/netns"}}},
	} {
		if got := tc.check([]pkg{tc.p}); len(got) != 1 {
			t.Errorf("%s: %d violations, want 1: %q", name, len(got), got)
		}
	}
}
