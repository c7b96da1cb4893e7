package l7proxy

import (
	"io"
	"net"
	"testing"
)

// TestIdleOpaqueMemory is the budget of an opaque connection that is open and carries
// nothing at the moment.
func TestIdleOpaqueMemory(t *testing.T) {
	const (
		clients = 300
		budget  = memoryFactor * 18 << 10
	)
	addr := serveConns(t, func(nc net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{nc}, make([]byte, 16))
	})
	e := newEnv(t)
	e.proxy.core.Tap = unwatched{}
	to := e.to(addr)
	echo := func(nc net.Conn) {
		if _, err := nc.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	open := func(addr string) (conns []net.Conn) {
		for range clients {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			echo(nc)
			conns = append(conns, nc)
		}
		return conns
	}
	measure := func(addr string) int64 {
		before := memoryInUse()
		conns := open(addr)
		held := memoryInUse() - before
		for _, nc := range conns {
			nc.Close()
		}
		return held
	}
	direct := measure(addr)
	each := (measure(to) - direct) / clients
	t.Logf("%d bytes for each idle connection", each)
	if each > budget {
		t.Errorf("%d bytes for each idle opaque connection, want at most %d", each, budget)
	}
}
