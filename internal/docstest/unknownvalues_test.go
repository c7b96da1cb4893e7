package docstest

import (
	"strings"
	"testing"
)

// TestValuesThatAreNotKnown: the page says of each annotation what a value does that is not known.
// What it does is tried by TestUnknownValuesOfAnnotations in pkg/controller/translate.
func TestValuesThatAreNotKnown(t *testing.T) {
	_, section, ok := strings.Cut(read(t, "docs/reference/settings.md"), "\n## Values that are not known\n")
	section, _, _ = strings.Cut(section, "\n## ")
	tried := read(t, "pkg/controller/translate/misspelt_test.go")
	pairs := firsts(t, `(?m)^\t(?:LabelMesh|Annotation\w+)\s+= "([a-z./-]+)"`, read(t, "pkg/mesh/annotation.go"))
	if !ok || len(pairs) < 20 {
		t.Fatalf("the section or the annotations are not found: %v", pairs)
	}
	names := firsts(t, `(?m)^\t(LabelMesh|Annotation\w+)\s+= "[a-z./-]+"`, read(t, "pkg/mesh/annotation.go"))
	for i, name := range pairs {
		if name == "underlane.io/status" || name == "underlane.io/enrolled" {
			continue // users do not write them
		}
		domain, _, _ := strings.Cut(name, "/")
		row := "| `" + name + "` |"
		switch domain {
		case "retry.underlane.io", "timeout.underlane.io":
			row = "`" + domain + "/`…"
		case "balancer.underlane.io":
			row = "| `balancer.underlane.io/failure-accrual`… |"
		}
		if name == "underlane.io/mesh" {
			row = "| label `underlane.io/mesh` |"
		} else if strings.HasPrefix(name, "underlane.io/") && !strings.Contains(tried, "{mesh."+names[i]+", ") {
			t.Errorf("TestUnknownValuesOfAnnotations does not try %s", names[i])
		}
		if !strings.Contains(section, row) {
			t.Errorf("settings.md does not say what a value of %s does that is not known: there is no %q", name, row)
		}
	}
}
