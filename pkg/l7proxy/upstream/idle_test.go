package upstream

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
)

// pooledConn is a connection for a pool, and its other end.
func pooledConn(t *testing.T) (conn.Conn, net.Conn) {
	t.Helper()
	a, b := proxytest.Pair(t)
	return conn.Plain{Conn: a}, b
}

func TestPoolGivesWhatIsAlive(t *testing.T) {
	p := new(idlePool)
	key := Key{Source: "a", Addr: netip.MustParseAddrPort("10.0.0.1:1")}
	ok, _ := pooledConn(t)
	ended, endedPeer := pooledConn(t)
	talks, talksPeer := pooledConn(t)
	p.put(&HTTP1Conn{Conn: ok, Key: key, Result: Result{TLS: "true"}}, balance.Now())
	p.put(&HTTP1Conn{Conn: ended, Key: key, Result: Result{TLS: "true"}}, balance.Now())
	p.put(&HTTP1Conn{Conn: talks, Key: key, Result: Result{TLS: "true"}}, balance.Now())
	endedPeer.Close()
	if _, err := talksPeer.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	proxytest.Eventually(t, "the peers' acts arrived", func() bool { return !ended.Idle() && !talks.Idle() })
	if up := p.get(&key, false, new(*idleList)); up == nil || up.Conn != ok || up.Result.TLS != "true" {
		t.Errorf("got %+v, want the one that is alive", up)
	}
	if p.get(&key, false, new(*idleList)) != nil {
		t.Error("a connection is given out that has ended or said something")
	}
	if _, err := ended.Write([]byte("x")); err == nil {
		t.Error("what is dead was not closed")
	}
	if p.total != 0 {
		t.Errorf("%d counted in an empty pool", p.total)
	}
}

func TestPoolKeepsKeysApart(t *testing.T) {
	id := mesh.Identity{TrustDomain: "d", Namespace: "n", ServiceAccount: "s"}
	base := Key{Source: "a", Identity: id, Addr: netip.MustParseAddrPort("10.0.0.1:1")}
	p := new(idlePool)
	c, _ := pooledConn(t)
	p.put(&HTTP1Conn{Conn: c, Key: base, Result: Result{TLS: "true"}}, balance.Now())
	others := map[string]Key{
		"other client":   {Source: "b", Identity: id, Addr: netip.MustParseAddrPort("10.0.0.1:1")},
		"other identity": {Source: "a", Addr: netip.MustParseAddrPort("10.0.0.1:1")},
		"other address":  {Source: "a", Identity: id, Addr: netip.MustParseAddrPort("10.0.0.1:2")},
		"private":        {Source: "a", Identity: id, Addr: netip.MustParseAddrPort("10.0.0.1:1"), Session: 1},
	}
	for name, key := range others {
		if p.get(&key, false, new(*idleList)) != nil {
			t.Errorf("%s: got another key's connection", name)
		}
	}
	if p.get(&base, false, new(*idleList)) == nil {
		t.Error("lost")
	}
}

func TestPoolBoundsAndAge(t *testing.T) {
	p := new(idlePool)
	key := Key{Source: "a"}
	for range idlePerKey + 10 {
		p.put(&HTTP1Conn{Conn: &fakeConn{}, Key: key, Result: Result{TLS: ""}}, balance.Now())
	}
	if n := len(p.lists[key].conns); n != idlePerKey || p.total != idlePerKey {
		t.Errorf("%d kept, %d counted, want %d", n, p.total, idlePerKey)
	}
	p.lists[key].conns[0].since = balance.Now() - time.Hour
	first := p.lists[key].conns[0].Conn.(*fakeConn)
	p.closeIdle(time.Minute)
	if !first.closed || p.total != idlePerKey-1 || len(p.lists[key].conns) != idlePerKey-1 {
		t.Errorf("closed %v, %d left", first.closed, p.total)
	}
	p.closeAll()
	late := &fakeConn{}
	p.put(&HTTP1Conn{Conn: late, Key: key, Result: Result{TLS: ""}}, balance.Now())
	if p.total != 0 || len(p.lists) != 0 || !late.closed {
		t.Errorf("after the end: %d, %d keys, the late one closed: %v", p.total, len(p.lists), late.closed)
	}
}

// TestPoolSweepsLists: a connection whose list is gone is found again by its key.
func TestPoolSweepsLists(t *testing.T) {
	p := new(idlePool)
	key := Key{Source: "a"}
	c := &HTTP1Conn{Conn: &fakeConn{}, Key: key}
	p.put(c, balance.Now())
	if p.newest(&key, new(*idleList)) != c {
		t.Fatal("lost")
	}
	p.closeIdle(time.Minute)
	if len(p.lists) != 0 {
		t.Errorf("%d lists without a connection are kept", len(p.lists))
	}
	p.put(c, balance.Now())
	if p.newest(&key, new(*idleList)) != c {
		t.Error("not found after its list was removed")
	}
}

type fakeConn struct {
	conn.Conn
	closed bool
}

func (f *fakeConn) Close() error { f.closed = true; return nil }
