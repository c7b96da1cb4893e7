package archtest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// maxMethods is how many methods a type may have. A larger one is cut into types of one
// concern each, of which a higher one embeds a lower one where both share an object's life.
const maxMethods = 25

// manyMethods are the types with more, and how many they may have at most.
var manyMethods = map[string]struct {
	most int
	why  string
}{
	"pkg/l7proxy/mux.Stream": {58, "a net.Conn, too, and all that conn.Conn has; it forwards, and moves to another connection"},
}

func TestMethods(t *testing.T) {
	counts := methodCounts(sources(t))
	report(t, methodViolations(counts))
	for name, e := range manyMethods {
		if counts[name] <= maxMethods {
			t.Errorf("%s has %d methods: it needs no exception any more (%s)", name, counts[name], e.why)
		}
	}
}

// methodCounts counts the methods that are declared on each type of the product.
func methodCounts(all []source) map[string]int {
	counts := map[string]int{}
	for _, s := range all {
		if s.file == nil || s.generated || s.isTest() || !within(s.path, "pkg") {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil {
				counts[s.dir()+"."+receiver(f.Recv.List[0].Type)]++
			}
		}
	}
	return counts
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

func methodViolations(counts map[string]int) (out []string) {
	for name, n := range counts {
		if limit := max(maxMethods, manyMethods[name].most); n > limit {
			out = append(out, fmt.Sprintf("%s has %d methods, the limit is %d: cut it by concern", name, n, limit))
		}
	}
	slices.Sort(out)
	return out
}

func TestMethodRuleCanFail(t *testing.T) {
	for n, want := range map[int]int{maxMethods: 0, maxMethods + 1: 1} {
		s, err := parseSource("pkg/x/x.go", "// Package x is.\npackage x\n"+strings.Repeat("func (t *T[K]) m() {}\n", n))
		if err != nil {
			t.Fatal(err)
		}
		if got := methodViolations(methodCounts([]source{s})); len(got) != want {
			t.Errorf("%d methods: %q, want %d violations", n, got, want)
		}
	}
}
