package plan

import (
	"bytes"
	"strings"
)

// keep bounds the output that Tests keeps of a test, and of all that failed.
const keep = 128 << 10

// Tests reads the output of `go test -v`: it counts tests, and keeps the output of those
// that failed. Tests of tests do not count. It is an io.Writer.
type Tests struct {
	Passed  int
	Failed  []string
	Skipped []Skip
	Ended   func(line string) // called at the end of each test; nil: not

	line   []byte
	since  bytes.Buffer // output since the last test that passed
	failed bytes.Buffer
}

// Write implements io.Writer. It never fails.
func (t *Tests) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, whole := bytes.Cut(p, []byte("\n"))
		t.line = append(t.line, line...)
		if !whole {
			if len(t.line) > keep { // a line without an end
				t.end()
			}
			return n, nil
		}
		t.end()
		p = rest
	}
}

func (t *Tests) end() {
	line := string(t.line)
	t.line = t.line[:0]
	if t.since.Len() > keep {
		t.since.Next(t.since.Len() - keep/2)
	}
	t.since.WriteString(line + "\n")
	how, name, ok := strings.Cut(strings.TrimPrefix(line, "--- "), ": ")
	if !ok || !strings.HasPrefix(line, "--- ") {
		return
	}
	name, _, _ = strings.Cut(name, " ")
	switch how {
	case "PASS":
		t.Passed++
	case "SKIP":
		t.Skipped = append(t.Skipped, Skip{name, t.before(line)})
	case "FAIL":
		t.Failed = append(t.Failed, name)
		if room := keep - t.failed.Len(); room > 0 {
			t.failed.Write(t.since.Bytes()[:min(room, t.since.Len())])
		}
	default:
		return
	}
	t.since.Reset()
	if t.Ended != nil {
		t.Ended(line)
	}
}

// before returns the line that came before the last one, without spaces around it.
func (t *Tests) before(last string) string {
	text := strings.TrimSpace(strings.TrimSuffix(t.since.String(), last+"\n"))
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

// Output returns the output of tests that failed, and what came after the last test that
// has ended: a panic, or what a program says that is no test.
func (t *Tests) Output() string { return t.failed.String() + t.since.String() + string(t.line) }
