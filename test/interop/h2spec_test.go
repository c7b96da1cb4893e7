package interop

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"testing"
)

// h2specExceptions has the cases that may fail, each with the reason.
var h2specExceptions = map[string]string{
	// The mesh recognises HTTP/2 by its preface. Other bytes are of a protocol that
	// it does not know, so it forwards them to the server. This server also speaks
	// HTTP/1 and answers in HTTP/1.
	"http2/3.5/Sends invalid connection preface": "without the preface a connection is not taken for HTTP/2",
}

// h2specCases is the number of cases in h2spec. Fewer are run if a connection
// breaks.
const h2specCases = 145

// junit is the report of h2spec.
type junit struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Name    string `xml:"name,attr"`
		ID      string `xml:"id,attr"`
		Cases   []struct {
			Name    string  `xml:"classname,attr"`
			Failure *string `xml:"failure"`
			Error   *string `xml:"error"`
			Skipped *string `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// TestH2spec runs h2spec from a meshed pod against a port of a meshed pod. Its peer
// in HTTP/2 is the agent of its own node.
func TestH2spec(t *testing.T) {
	l := upPods(t, 8080, "labtest", "http")
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report.xml")
			// Ignore its exit status, which says only whether all cases passed.
			r := l.TryExec("client", "h2spec", "--host", l.Pod(p.server).IP().String(), "--port", "8080", "--timeout", "5", "--junit-report", file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("h2spec wrote no report, want one: %v: %s", err, r)
			}
			var report junit
			if err := xml.Unmarshal(text, &report); err != nil {
				t.Fatalf("report of h2spec: %v\n%s", err, text)
			}
			passed, all := 0, 0
			for _, s := range report.Suites {
				for _, c := range s.Cases {
					all++
					name := s.Package + "/" + c.Name
					failure := c.Failure
					if failure == nil {
						failure = c.Error
					}
					switch why, excepted := h2specExceptions[name]; {
					case failure == nil && c.Skipped == nil:
						passed++
					case excepted:
						t.Logf("as expected, %s fails: %s", name, why)
					case failure != nil:
						t.Errorf("%s: got a failure, want it to pass: %s", name, *failure)
					default:
						t.Errorf("%s: skipped, want it run", name)
					}
				}
			}
			t.Logf("%d of %d cases passed", passed, all)
			if passed < h2specCases-len(h2specExceptions) || all != h2specCases {
				t.Errorf("%d of %d cases passed, want all but the exceptions of %d", passed, all, h2specCases)
			}
			throughMesh(t, l, p.server)
		})
	}
}
