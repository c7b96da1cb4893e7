package l7proxy

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestStreamsAtTheLimit: a pod that has as many connections as it may refuses a stream as it
// refuses a dedicated connection: the client's agent learns it before the client is connected,
// so that it can try another endpoint.
func TestStreamsAtTheLimit(t *testing.T) {
	const most = 30
	reasons := map[bool]mesh.Reason{}
	for _, streams := range []bool{false, true} {
		b := newBackend(t)
		a := newAgents(t, b.addr, Limits{}, func(a *agents) {
			a.client.proxy.upstream.OpaqueStreams = streamsIf(streams)
			a.server.proxy.pods.MaxConns = most
		})
		if streams {
			a.warm(func() { a.visit(b) })
		}
		before := len(closed(a.client))
		for n := 0; ; n++ {
			c := a.dial()
			c.send(opaqueBytes)
			if n > most {
				t.Fatalf("streams %v: %d connections were made, want at most %d", streams, n, most)
			}
			refused := false
			proxytest.Eventually(t, "the connection is made, or refused", func() bool {
				select {
				case nc := <-b.conns:
					newClient(t, nc).expect(opaqueBytes)
					return true
				default:
					refused = len(closed(a.client)) > before
					return refused
				}
			})
			if refused {
				c.expectEnd(unix.ECONNRESET)
				break
			}
		}
		reasons[streams] = closed(a.client)[before].Reason
	}
	if reasons[true] != reasons[false] {
		t.Errorf("a refused stream ends with %q, a refused dedicated connection with %q", reasons[true], reasons[false])
	}
}
