package programs

import (
	"slices"
	"strings"
)

// difference is something that programs see of the mesh. One that does not show
// any more fails the test.
type difference struct {
	testCase string   // "row/case"
	ways     []string // all if empty
	bare     string   // what the outcome has in it only without the mesh
	meshed   string   // and only with it
	why      string
}

var differences = []difference{
	{
		testCase: "nginx/curl-closed", bare: "Empty reply", meshed: "502 Bad Gateway",
		why: "A server that closes without an answer is told to an HTTP client by 502 (docs/reference/reasons.md).",
	},
	{
		testCase: "node/http-abort", bare: `"ECONNRESET",4,false`,
		why: "A response that its server cuts off with FIN ends in a reset, which clients cannot take for its end.",
	},
	{
		testCase: "apache/curl", bare: "Upgrade: h2c",
		why: "Upgrade to h2c is taken out, of what a server offers too: HTTP/1 goes on (docs/reference/http.md).",
	},
	{
		testCase: "apache/h2c-upgrade", bare: "hello\n2", meshed: "hello\n1.1",
		why: "Upgrade to h2c is taken out of a request: it goes on in HTTP/1 (docs/reference/http.md).",
	},
}

func differenceOf(name string, w way) *difference {
	for i := range differences {
		d := &differences[i]
		if d.testCase == name && (len(d.ways) == 0 || slices.Contains(d.ways, w.name)) {
			return d
		}
	}
	return nil
}

func (d *difference) shows(got, want outcome) bool {
	g, w := got.String(), want.String()
	return d.bare+d.meshed != "" && (d.bare == "" || strings.Contains(w, d.bare) && !strings.Contains(g, d.bare)) &&
		(d.meshed == "" || strings.Contains(g, d.meshed) && !strings.Contains(w, d.meshed))
}
