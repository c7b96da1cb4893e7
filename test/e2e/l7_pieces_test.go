package e2e

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// TestMessagesInPieces: programs that write a message in several writes without
// TCP_NODELAY wait for an acknowledgement before each but the first. What they
// get without a mesh at once they get at once with it: no acknowledgement of
// the agents' is one that the kernel puts off, for 40 ms.
func TestMessagesInPieces(t *testing.T) {
	const delayed = 40 * time.Millisecond // the least time that Linux delays an acknowledgement
	cases := []string{
		"whole", "response", "chunked-response", "closing-response", "interim-response",
		"cut-head", "request", "chunked-request", "http2-response", "http2-request", "opaque",
	}
	bare := map[string]time.Duration{}
	server := func(name, node string) podSpec {
		return podSpec{Name: name, Node: node, Labels: meshed, Command: []string{"labtest", "pieces", "serve"}, Ports: []int{9000}}
	}
	bareAndMeshed(t, func(t *testing.T, l *l7Lab) {
		if !l.bare {
			waitEnrolled(t, l.Lab, "default/pieces-near", "default/pieces-far")
		}
		near, far := l.Pod("pieces-near").IP(), l.Pod("pieces-far").IP()
		for _, w := range []struct {
			name, client string
			server       netip.Addr
		}{
			{"same node", "client", near},
			{"cross-node", "client", far},
			{"from outside the mesh", "outside", near},
		} {
			for _, c := range cases {
				name := w.name + ", " + c
				p50 := askPieces(t, l.Lab, w.client, addrPort(w.server, 9000), c, false)
				if l.bare {
					bare[name] = p50
					continue
				}
				if t.Logf("%s: bare %s, meshed %s", name, bare[name], p50); p50 >= delayed && p50 > bare[name]+delayed/2 {
					t.Errorf("%s: %s, and %s without a mesh", name, p50, bare[name])
				}
				// Without a mesh every message after a connection's first is late. What the
				// agents look into is not, what they do not is as it would be without them.
				if c != "opaque" && c != "closing-response" {
					if p50 := askPieces(t, l.Lab, w.client, addrPort(w.server, 9000), c, true); p50 >= delayed {
						t.Errorf("%s, on one connection: %s", name, p50)
					}
				}
			}
		}
	},
		server("pieces-near", node1),
		server("pieces-far", node2),
		podSpec{Name: "outside", Node: node2, Command: []string{"labtest", "wait"}},
	)
}

// askPieces is the median of some exchanges. A busy machine may take its time:
// the best of a few.
func askPieces(t *testing.T, l *lab.Lab, pod, addr, name string, keep bool) time.Duration {
	t.Helper()
	var p50s []time.Duration
	for range 3 {
		last := lab.Run(l.PodCommand(pod, "labtest", "pieces", "ask", addr, name, "-n", "20", "--keep="+strconv.FormatBool(keep)))
		var s struct{ P50 time.Duration }
		if last.Code != 0 || json.Unmarshal([]byte(last.Stdout), &s) != nil {
			t.Fatalf("%s: %v", name, last)
		}
		if p50s = append(p50s, s.P50); s.P50 < 20*time.Millisecond {
			break
		}
	}
	return slices.Min(p50s)
}
