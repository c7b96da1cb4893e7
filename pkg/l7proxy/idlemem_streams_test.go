package l7proxy

import (
	"io"
	"net"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/mux"
)

// TestIdleOpaqueStreamMemory is the budget of an opaque connection between nodes that is
// open and carries nothing at the moment, at both agents: a stream takes no more than a
// dedicated connection, and has a budget of its own.
func TestIdleOpaqueStreamMemory(t *testing.T) {
	const (
		clients = 4 * mux.MaxStreams
		budget  = memoryFactor * 12 << 10
	)
	addr := serveConns(t, func(nc net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{nc}, make([]byte, 16))
	})
	measure := func(to string, parked func()) int64 {
		before := memoryInUse()
		var conns []net.Conn
		for range clients {
			nc := dialTCP(t, to)
			conns = append(conns, nc)
			nc.send("\x00")
			if _, err := io.ReadFull(nc.TCPConn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		parked()
		held := memoryInUse() - before
		for _, nc := range conns {
			nc.Close()
		}
		return held / clients
	}
	// agentsShare is the memory for each connection without what its two ends take.
	agentsShare := func(streams bool) (each int64) {
		direct := measure(addr, func() {})
		a := newAgents(t, addr, Limits{}, func(a *agents) {
			a.client.proxy.upstream.OpaqueStreams = streamsIf(streams)
			for _, e := range []*env{a.client, a.server} {
				e.proxy.core.Tap = unwatched{}
			}
		})
		to := a.client.to(a.addr.String())
		if streams {
			a.warmEcho(to)
		}
		before := a.client.network.Dials()
		each = measure(to, func() {
			for _, e := range []*env{a.client, a.server} {
				if streams { // what arrives on a stream needs no goroutine either
					e.untilParked(clients)
				} else {
					e.untilParked(2 * clients)
				}
			}
		})
		if n := a.client.network.Dials() - before; streams && n > clients/mux.MaxStreams {
			t.Errorf("%d connections were made between the agents, want few", n)
		}
		return each - direct
	}
	each := map[bool]int64{}
	for try := 0; try < memoryTries && (try == 0 || each[true] > each[false] || each[true] > budget); try++ {
		each[false], each[true] = agentsShare(false), agentsShare(true)
	}
	t.Logf("both agents: %d bytes for each idle stream, %d for each dedicated connection", each[true], each[false])
	if each[true] > each[false] || each[true] > budget {
		t.Errorf("both agents: %d bytes for each idle stream, want at most %d, and the %d of a dedicated connection", each[true], budget, each[false])
	}
}
