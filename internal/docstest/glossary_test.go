package docstest

import (
	"slices"
	"strings"
	"testing"
)

// The glossary is alphabetical and has each term once.
func TestGlossary(t *testing.T) {
	_, text, ok := strings.Cut(read(t, "docs/ARCHITECTURE.md"), "\n## Glossary\n")
	if !ok {
		t.Fatal("docs/ARCHITECTURE.md has no glossary")
	}
	terms := firsts(t, `(?m)^- \*\*([a-z0-9 -]+)\*\*`, text)
	for i, term := range terms {
		if i > 0 && strings.Compare(terms[i-1], term) >= 0 {
			t.Errorf("the glossary has %q after %q", term, terms[i-1])
		}
	}
	if items := firsts(t, `(?m)^- (.)`, text); len(items) != len(terms) {
		t.Errorf("the glossary has %d items, and %d of them begin with a term", len(items), len(terms))
	}
	if !slices.Contains(terms, "agent") {
		t.Errorf("the glossary has %q, and no agent", terms)
	}
}
