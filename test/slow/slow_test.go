package slow

import "testing"

func TestParse(t *testing.T) {
	for text, want := range map[string]int{"": 1, "10": 10, "0": 1, "-3": 1, "fast": 1} {
		if got := parse(text); int(got) != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
