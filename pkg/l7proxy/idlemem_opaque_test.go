package l7proxy

import (
	"fmt"
	"io"
	"math"
	"net"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// TestIdleOpaqueMemory is the budget of an opaque connection that is open and carries
// nothing at the moment.
func TestIdleOpaqueMemory(t *testing.T) {
	const (
		clients = 300
		budget  = memoryFactor * 5 << 10
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
	measure := func(addr string, parked int) int64 {
		before := memoryInUse()
		conns := open(addr)
		e.untilParked(parked)
		held := memoryInUse() - before
		for _, nc := range conns {
			nc.Close()
		}
		e.untilParked(0)
		return held
	}
	each := int64(math.MaxInt64)
	for try := 0; try < memoryTries && each > budget; try++ {
		direct := measure(addr, 0)
		each = min(each, (measure(to, 2*clients)-direct)/clients)
	}
	t.Logf("%d bytes for each idle connection", each)
	if each > budget {
		t.Errorf("%d bytes for each idle opaque connection, want at most %d", each, budget)
	}
}

// untilParked waits until so many directions of opaque connections wait without a goroutine.
func (e *env) untilParked(n int) {
	e.t.Helper()
	proxytest.Eventually(e.t, fmt.Sprintf("%d directions wait without a goroutine", n), func() bool { return e.proxy.lot.Parked() == n })
}
