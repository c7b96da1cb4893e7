package l7proxy

import (
	"io"
	"math"
	"net"
	"runtime"
	"testing"
	"time"
)

// TestIdleConnectionMemory is the budget of an HTTP/1 client that keeps its
// connection: the client's, the endpoint's and what serves them.
func TestIdleConnectionMemory(t *testing.T) {
	const (
		clients = 500
		budget  = memoryFactor * 7 << 10
	)
	addr := idleServer(t)
	e := newEnv(t)
	e.proxy.core.Tap = unwatched{}
	each := int64(math.MaxInt64)
	for try := 0; try < memoryTries && each > budget; try++ {
		direct := heldBy(t, clients, addr, func() {})
		each = min(each, (heldBy(t, clients, e.to(addr), func() { e.untilParked(clients) })-direct)/clients)
		e.untilParked(0)
	}
	t.Logf("%d bytes for each idle connection", each)
	if each > budget {
		t.Errorf("%d bytes for each idle connection, want at most %d", each, budget)
	}
}

// heldBy is the memory that so many idle connections to addr take, at both ends. parked waits until
// they are idle.
func heldBy(t *testing.T, clients int, addr string, parked func()) int64 {
	t.Helper()
	before := memoryInUse()
	var conns []net.Conn
	buf := make([]byte, len(benchResponse))
	for range clients {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(c, benchRequest); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	parked()
	held := memoryInUse() - before
	for _, c := range conns {
		c.Close()
	}
	return held
}

// memoryTries is how often memory is measured until it is within its budget: what earlier tests
// have left may end meanwhile.
const memoryTries = 3

// memoryInUse is the heap that is reachable, and the stacks. Pools are emptied:
// what lies in them is nobody's. What ended a moment ago may still be on its way
// out: it is waited for until nothing shrinks any more.
func memoryInUse() int64 {
	least := int64(math.MaxInt64)
	for calm := 0; calm < 3; {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		now := int64(m.HeapAlloc + m.StackInuse)
		if calm++; now < least-16<<10 {
			calm = 0
		}
		least = min(least, now)
		time.Sleep(10 * time.Millisecond)
	}
	return least
}

// idleServer answers each connection's one request, and waits for its end.
func idleServer(t *testing.T) (addr string) {
	return serveConns(t, func(c net.Conn) {
		buf := make([]byte, 256)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := io.WriteString(c, benchResponse); err != nil {
				return
			}
		}
	})
}
