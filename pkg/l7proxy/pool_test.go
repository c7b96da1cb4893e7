package l7proxy

import (
	"net"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// pooledConn is a connection for a pool, and its other end.
func pooledConn(t *testing.T) (Conn, net.Conn) {
	t.Helper()
	b := newBackend(t)
	c, err := (&loopback{}).Dial(t.Context(), "", mustAddr(b.addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, b.accept()
}

func newPool() *pool { return &pool{idle: make(map[poolKey][]pooled)} }

func TestPoolGivesWhatIsAlive(t *testing.T) {
	p := newPool()
	key := PoolKey{Source: "a", Addr: portOf(1)}
	ok, _ := pooledConn(t)
	ended, endedPeer := pooledConn(t)
	talks, talksPeer := pooledConn(t)
	p.put(newH1Upstream(ok, &Choice{Key: key, TLS: "true"}))
	p.put(newH1Upstream(ended, &Choice{Key: key, TLS: "true"}))
	p.put(newH1Upstream(talks, &Choice{Key: key, TLS: "true"}))
	endedPeer.Close()
	if _, err := talksPeer.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the peers' acts arrived", func() bool { return !alive(ended) && !alive(talks) })
	if up := p.get(key, false); up == nil || up.conn != ok || up.tls != "true" {
		t.Errorf("got %+v, want the one that is alive", up)
	}
	if p.get(key, false) != nil {
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
	base := PoolKey{Source: "a", Identity: id, Addr: portOf(1)}
	p := newPool()
	c, _ := pooledConn(t)
	p.put(newH1Upstream(c, &Choice{Key: base, TLS: "true"}))
	others := map[string]PoolKey{
		"other client":   {Source: "b", Identity: id, Addr: portOf(1)},
		"other identity": {Source: "a", Addr: portOf(1)},
		"other address":  {Source: "a", Identity: id, Addr: portOf(2)},
		"private":        {Source: "a", Identity: id, Addr: portOf(1), Session: 1},
	}
	for name, key := range others {
		if p.get(key, false) != nil {
			t.Errorf("%s: got another key's connection", name)
		}
	}
	if p.get(base, false) == nil {
		t.Error("lost")
	}
}

func TestPoolBoundsAndAge(t *testing.T) {
	p := newPool()
	key := PoolKey{Source: "a"}
	for range poolPerKey + 10 {
		p.put(newH1Upstream(&fakeConn{}, &Choice{Key: key, TLS: ""}))
	}
	if n := len(p.idle[poolKey{PoolKey: key}]); n != poolPerKey || p.total != poolPerKey {
		t.Errorf("%d kept, %d counted, want %d", n, p.total, poolPerKey)
	}
	p.idle[poolKey{PoolKey: key}][0].since = time.Now().Add(-time.Hour)
	first := p.idle[poolKey{PoolKey: key}][0].up.conn.(*fakeConn)
	p.closeIdle(time.Minute)
	if !first.closed || p.total != poolPerKey-1 || len(p.idle[poolKey{PoolKey: key}]) != poolPerKey-1 {
		t.Errorf("closed %v, %d left", first.closed, p.total)
	}
	p.closeAll()
	late := &fakeConn{}
	p.put(newH1Upstream(late, &Choice{Key: key, TLS: ""}))
	if p.total != 0 || len(p.idle) != 0 || !late.closed {
		t.Errorf("after the end: %d, %d keys, the late one closed: %v", p.total, len(p.idle), late.closed)
	}
}

type fakeConn struct {
	Conn
	closed bool
}

func (f *fakeConn) Close() error { f.closed = true; return nil }
