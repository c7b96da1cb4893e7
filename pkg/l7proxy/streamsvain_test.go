package l7proxy

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
)

// impatient opens connections to an address, waits, and cuts them.
func impatient(t *testing.T, to string, n int, wait func([]*net.TCPConn)) {
	t.Helper()
	var all []*net.TCPConn
	for range n {
		nc, err := net.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		c := nc.(*net.TCPConn)
		_ = c.SetReadBuffer(4 << 10)
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		_ = c.SetLinger(0)
		if _, err := c.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	wait(all)
	for _, c := range all {
		c.Close()
	}
}

// endless is a server that writes, beginning with head, for as long as somebody reads.
func endless(head string, written *atomic.Int64) func(net.Conn) {
	return func(nc net.Conn) {
		_, err := io.WriteString(nc, head)
		for err == nil {
			var n int
			n, err = nc.Write(make([]byte, 16<<10))
			written.Add(int64(n))
		}
	}
}

// untilStalled waits until servers do not write any more.
func untilStalled(t *testing.T, written *atomic.Int64) {
	t.Helper()
	last := int64(-1)
	proxytest.Eventually(t, "the servers are stalled", func() bool {
		time.Sleep(50 * time.Millisecond)
		now := written.Load()
		defer func() { last = now }()
		return now > 0 && now == last
	})
}

// TestUnreadStreamsArePaced: of a peer whose opaque streams make servers write, and that resets
// them before it has taken that, further streams are read later, and it is not cut. Each costs
// far more than a request that is given up.
func TestUnreadStreamsArePaced(t *testing.T) {
	var written atomic.Int64
	a := newAgents(t, serveConns(t, endless("", &written)), Limits{})
	to := a.client.to(a.addr.String())
	a.warm(func() { impatient(t, to, 1, func([]*net.TCPConn) {}) })
	const streams = 60
	proxytest.Eventually(t, "such streams are paced", func() bool {
		impatient(t, to, streams, func([]*net.TCPConn) { untilStalled(t, &written) })
		return a.server.proxy.LimitHits()["http2-resets"] > 0
	})
	if got := a.server.proxy.LimitHits()["http2-flood"]; got != 0 {
		t.Errorf("got %d peers sent away, want none", got)
	}
	impatient(t, to, 1, func(all []*net.TCPConn) {
		if _, err := io.ReadFull(all[0], make([]byte, 1)); err != nil {
			t.Errorf("the next connection: %v", err)
		}
	})
}

// TestUnreadConnectionsArePaced: a peer that ends its shared connections instead has further ones
// read later.
func TestUnreadConnectionsArePaced(t *testing.T) {
	var written atomic.Int64
	e := newEnv(t)
	server := serveConns(t, endless("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", &written))
	from := quota.ClientSource(netip.MustParseAddr("10.0.0.1"), mesh.Identity{Namespace: "a"})
	const conns, streams = 8, 60
	endUnread := func() {
		var clients []*mux.Conn
		for range conns {
			client := servedMux(t, e, server, from)
			for range streams {
				openStream(t, client, get)
			}
			clients = append(clients, client)
		}
		untilStalled(t, &written)
		for _, client := range clients {
			client.NC.Close()
		}
	}
	wait := func() time.Duration { return e.proxy.core.Paces.Start(from, balance.Now()) }
	// On a busy machine the servers may not have written to many streams yet, and what the others
	// cost may be over before the next connection is made: then all of it once more.
	proxytest.Eventually(t, "the next connection waits", func() bool {
		endUnread()
		least := time.Duration(0)
		for deadline := time.Now().Add(time.Second); least == 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
			least = wait()
		}
		// A peer that was killed while its pods were reading looks the same, and comes back soon.
		for range 10 { // while the others end
			if got, most := wait(), endedWait+100*time.Millisecond; got > most {
				t.Fatalf("a further connection waits %v, want at most %v", got, most)
			}
			time.Sleep(20 * time.Millisecond)
		}
		client := servedMux(t, e, server, from)
		defer client.NC.Close()
		if _, err := io.ReadFull(openStream(t, client, get), make([]byte, 1)); err != nil {
			t.Fatalf("the next connection: %v", err)
		}
		return e.proxy.LimitHits()["http2-resets"] > 0
	})
}

// TestTakenStreamsAreNotPaced: a client that cuts its connections when it has its answers makes
// no other one wait, however many these are.
func TestTakenStreamsAreNotPaced(t *testing.T) {
	a := newAgents(t, echoServer(t), Limits{})
	to := a.client.to(a.addr.String())
	a.warmEcho(to)
	for range 10 {
		impatient(t, to, 50, func(all []*net.TCPConn) {
			for _, c := range all {
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	proxytest.Eventually(t, "the streams are gone", func() bool { return a.streams() == 0 })
	if got := a.server.proxy.LimitHits()["http2-resets"]; got != 0 {
		t.Errorf("%d streams were paced, want none", got)
	}
}

// TestMuxFramingIsOfTheSource: the shared connections of a source are read later when all of its
// connections have sent too much framing.
func TestMuxFramingIsOfTheSource(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	from := quota.ClientSource(netip.MustParseAddr("10.0.0.1"), mesh.Identity{Namespace: "a"})
	client := servedMux(t, e, b.addr, from)
	other, err := e.proxy.pods.Enter(quota.Key{UID: e.local.UID, Direction: mesh.Inbound}, from, connDescriptors)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Leave()
	exchange := func() {
		t.Helper()
		s := openStream(t, client, get)
		defer s.Close()
		srv := b.request()
		srv.expect(get)
		srv.send(okAnswer)
		if _, err := io.ReadFull(s, make([]byte, len(okAnswer))); err != nil {
			t.Errorf("a request: got %v, want an answer", err)
		}
	}
	exchange()
	const owed = time.Second
	began := time.Now()
	other.Framed(balance.Now(), 512<<10+int(owed.Seconds())*1<<20) // quota.framingBurst, framingRate
	heard := client.Heard()
	for range 50 { // some of it is made up for by the content of the exchange
		client.Ping()
	}
	proxytest.Eventually(t, "a ping is read", func() bool { return client.Heard() > heard })
	exchange()
	if took := time.Since(began); took < owed*9/10 {
		t.Errorf("the peer was read after %v, want at least %v", took, owed*9/10)
	}
}
