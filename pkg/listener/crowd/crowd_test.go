package crowd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// note is a connection that says when it is closed.
type note struct {
	name   string
	closed *[]string
}

func (n note) Close() error { *n.closed = append(*n.closed, n.name); return nil }

func TestTheOldestGoes(t *testing.T) {
	var closed []string
	c := &Crowd{Total: 4, Each: 2}
	members := map[string]*member{}
	enter := func(name string, from byte) {
		members[name] = c.enter(note{name, &closed}, netip.AddrFrom4([4]byte{10, 0, 0, from}))
	}
	enter("a1", 1)
	enter("b1", 2)
	enter("a2", 1)
	enter("a3", 1) // one too many of its address
	enter("b2", 2)
	enter("c1", 3) // one too many of all
	enter("c2", 3)
	if diff := cmp.Diff([]string{"a1", "b1", "a2"}, closed); diff != "" {
		t.Error(diff)
	}
	c.leave(members["a3"]) // known
	c.leave(members["a3"])
	c.leave(members["a1"]) // gone already
	enter("d1", 4)
	if diff := cmp.Diff([]string{"a1", "b1", "a2"}, closed); diff != "" || c.Len() != 4 || c.Evicted() != 3 {
		t.Errorf("%s%d in it, %d evicted", diff, c.Len(), c.Evicted())
	}
	for _, m := range members {
		c.leave(m)
	}
	if c.Len() != 0 || len(c.from) != 0 {
		t.Errorf("left: %d, %v", c.Len(), c.from)
	}
}

func TestListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Crowd{Total: 2, Each: 2}
	ln := c.Listen(inner)
	defer ln.Close()
	dial := func() (client, server net.Conn) {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if server, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		return client, server
	}
	known, server := dial()
	Known(over{server})
	idle, _ := dial()
	_, last := dial()
	dial()
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("the oldest stranger stays")
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(known, make([]byte, 1)); err != nil {
		t.Error("one who is known is gone:", err)
	}
	_, _ = last.Close(), last.Close()
	if c.Len() != 1 {
		t.Errorf("%d in it", c.Len())
	}
	Known(known) // is in no crowd
	if got := Source(over{server}); got != netip.MustParseAddr("127.0.0.1") {
		t.Error(got)
	}
}

// over is a connection over another, as one of TLS is.
type over struct{ net.Conn }

func (o over) NetConn() net.Conn { return o.Conn }

func TestManyAtOnce(t *testing.T) {
	c := &Crowd{Total: 10, Each: 3}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			for range 100 {
				m := c.enter(io.NopCloser(nil), netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", i%7)))
				if c.Len() > 10 {
					t.Error("more than there may be")
				}
				c.leave(m)
			}
		})
	}
	wg.Wait()
	if c.Len() != 0 || len(c.from) != 0 {
		t.Errorf("left: %d, %v", c.Len(), c.from)
	}
}
