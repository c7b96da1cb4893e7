package chart

import (
	"os"
	"path/filepath"
	"testing"
)

// What could be set in the release before can still be set: an upgrade renders this chart
// with the values of that one, of which each may have been set.
func TestValuesOfReleaseBefore(t *testing.T) {
	files, err := filepath.Glob("testdata/v*/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		values, err := ParseValues(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Render(t.Context(), "underlane-system", values); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
