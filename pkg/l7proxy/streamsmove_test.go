package l7proxy

import (
	"io"
	"sync"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// much is more than a stream carries on a shared connection.
const much = 3 << 20

// carry carries n bytes of a pattern from one to the other, and checks them.
func carry(t *testing.T, from, to *client, n int64) {
	t.Helper()
	var sending sync.WaitGroup
	sending.Go(func() {
		if _, err := io.Copy(from.TCPConn, proxytest.NewPattern(n)); err != nil {
			t.Errorf("sending: %v", err)
		}
	})
	want, got, buf := proxytest.NewPattern(n), int64(0), make([]byte, 64<<10)
	expected := make([]byte, len(buf))
	for got < n {
		m, err := to.r.Read(buf[:min(int64(len(buf)), n-got)])
		if err != nil {
			t.Errorf("after %d of %d bytes: %v", got, n, err)
			break
		}
		if _, err := io.ReadFull(want, expected[:m]); err != nil || string(expected[:m]) != string(buf[:m]) {
			t.Errorf("the bytes from %d on are not those that were sent", got)
			break
		}
		got += int64(m)
	}
	sending.Wait()
}

// moves has a stream carry much, beside another one, and waits until it has moved to a
// connection of its own.
func (a *agents) moves(b *backend, c, srv *client) {
	a.t.Helper()
	t := a.t.(*testing.T)
	a.stream(b)
	before := a.client.network.Dials()
	carry(t, c, srv, much)
	proxytest.Eventually(t, "the stream has moved", func() bool { return a.streams() == 1 })
	if a.client.network.Dials() == before { // probes of a slow agent are connections, too
		t.Error("no connection was made, want one for the stream")
	}
}

// shared is the number of connections with opaque streams that the server's agent has.
func (a *agents) shared() (n int) {
	a.server.proxy.movable.conns.Range(func(any, any) bool { n++; return true })
	return n
}

// TestBulkMoves: a stream that carries much, in either direction, moves to a connection of its
// own, and neither side sees that.
func TestBulkMoves(t *testing.T) {
	for _, by := range []string{"client", "server", "both"} {
		t.Run(by, func(t *testing.T) {
			a, b := warmed(t)
			other, otherSrv := a.stream(b)
			c, srv := a.stream(b)
			before := a.client.network.Dials()
			var all sync.WaitGroup
			if by != "server" {
				all.Go(func() { carry(t, c, srv, 10*much) })
			}
			if by != "client" {
				all.Go(func() { carry(t, srv, c, 10*much) })
			}
			all.Wait()
			proxytest.Eventually(t, "the stream has moved", func() bool { return a.streams() == 1 })
			if a.client.network.Dials() == before { // probes of a slow agent are connections, too
				t.Error("no connection was made, want one for the stream")
			}
			for _, ends := range [][2]*client{{c, srv}, {srv, c}, {other, otherSrv}, {otherSrv, other}} {
				ends[0].send("there?")
				ends[1].expect("there?")
			}
			_ = c.CloseWrite()
			srv.expectEnd(nil)
			carry(t, srv, c, much)
			srv.Close()
			c.expectEnd(nil)
			other.send("still there")
			otherSrv.expect("still there")
			if event := lastClosed(t, a.server, 1); event.Reset {
				t.Errorf("got %+v, want an orderly end", event)
			}
			proxytest.Eventually(t, "its connection has ended", func() bool { return a.shared() == 1 })
		})
	}
}

// TestManyMove: streams that carry much at the same time all move.
func TestManyMove(t *testing.T) {
	a, b := warmed(t)
	var ends [][2]*client
	for range 10 {
		c, srv := a.stream(b)
		ends = append(ends, [2]*client{c, srv})
	}
	var all sync.WaitGroup
	for i, one := range ends {
		from, to := one[i%2], one[1-i%2]
		all.Go(func() { carry(t, from, to, 3*much) })
	}
	all.Wait()
	proxytest.Eventually(t, "all have moved", func() bool { return a.streams() == 0 })
}
