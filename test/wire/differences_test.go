package wire

import (
	"path"
	"slices"
	"strings"
)

// difference is something that the ends of a connection see of the mesh. One
// that does not show any more fails the test.
type difference struct {
	rows   string // a pattern of path.Match
	ways   []string
	bare   string // what the ends see only without the mesh
	meshed string // and only with it
	late   bool   // or: the same, at another time
	why    string
}

// differences are first those by design, then the faults.
var differences = []difference{
	{
		rows: "http1/end/without-a-byte", bare: `end "", fin`, meshed: "<502 upstream-reset>",
		why: "A server that closes without an answer is told to an HTTP client by 502 (docs/reference/reasons.md).",
	},

	{
		rows: "http1/half-close/late-answer", bare: `recv "HTTP/1.1 200 OK`, meshed: `recv "", then`,
		why: "Fault: the end of a client's stream is taken for its leaving, and the answer is lost.",
	},
}

// differenceOf is what is known of a row to a server of a pod.
func differenceOf(name string, w way) *difference {
	for i := range differences {
		d := &differences[i]
		if ok, err := path.Match(d.rows, name); ok && err == nil && (len(d.ways) == 0 || slices.Contains(d.ways, w.server)) {
			return d
		}
	}
	return nil
}

// shows says whether the difference between what was seen is this one.
func (d *difference) shows(bare, meshed []string) bool {
	b, m := strings.Join(bare, "\n"), strings.Join(meshed, "\n")
	if d.late {
		return b == m
	}
	return (d.bare == "" || strings.Contains(b, d.bare) && !strings.Contains(m, d.bare)) &&
		(d.meshed == "" || strings.Contains(m, d.meshed) && !strings.Contains(b, d.meshed))
}
