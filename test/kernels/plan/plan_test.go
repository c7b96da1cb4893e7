package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const output = `=== RUN   TestGood
    good_test.go:3: nothing to see
--- PASS: TestGood (0.10s)
=== RUN   TestBad
=== RUN   TestBad/one
    bad_test.go:7: got 1, want 2
--- FAIL: TestBad (0.20s)
    --- FAIL: TestBad/one (0.20s)
=== RUN   TestNot
    not_test.go:9: no such feature
--- SKIP: TestNot (0.00s)
=== RUN   TestLast
--- PASS: TestLast (0.00s)
FAIL
`

// TestTests reads a run whole, and in pieces of every size.
func TestTests(t *testing.T) {
	for size := 1; size <= len(output); size++ {
		var ended []string
		r := Tests{Ended: func(line string) { ended = append(ended, line) }}
		for rest := output; rest != ""; {
			n := min(size, len(rest))
			if w, err := r.Write([]byte(rest[:n])); w != n || err != nil {
				t.Fatalf("pieces of %d: wrote %d, %v", size, w, err)
			}
			rest = rest[n:]
		}
		if r.Passed != 2 || !cmp.Equal(r.Failed, []string{"TestBad"}) || !cmp.Equal(r.Skipped, []Skip{{"TestNot", "not_test.go:9: no such feature"}}) || len(ended) != 4 {
			t.Fatalf("pieces of %d: got %d passed, failed %v, skipped %v, ended %q", size, r.Passed, r.Failed, r.Skipped, ended)
		}
		out := r.Output()
		if !strings.Contains(out, "got 1, want 2") || strings.Contains(out, "nothing to see") || !strings.HasSuffix(out, "FAIL\n") {
			t.Fatalf("pieces of %d: got the output\n%s\nwant that of TestBad, and the last line", size, out)
		}
	}
}

// TestTestsBound: output without an end costs no more memory than is kept.
func TestTestsBound(t *testing.T) {
	var r Tests
	for range 100 {
		_, _ = r.Write([]byte(strings.Repeat("x", keep/10)))
		_, _ = r.Write([]byte(strings.Repeat("line\n", keep/50)))
	}
	_, _ = r.Write([]byte("\n--- FAIL: TestLong (1s)\n"))
	if n := len(r.Output()); n == 0 || n > 4*keep {
		t.Errorf("%d bytes are kept, want some, and %d at most", n, 4*keep)
	}
	if len(r.Failed) != 1 {
		t.Errorf("got %v, want one failure", r.Failed)
	}
}

// TestLine: whatever a message says is one line.
func TestLine(t *testing.T) {
	line := string(Message{Result: &Result{Output: "a\nb\r\nc"}}.Line())
	if strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, Mark) || !strings.HasSuffix(line, "\n") {
		t.Errorf("got %q", line)
	}
}
