package crowd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
	c.leave(members["a3"], true)
	c.leave(members["a3"], false)
	c.leave(members["a1"], false) // gone already
	enter("d1", 4)
	if diff := cmp.Diff([]string{"a1", "b1", "a2"}, closed); diff != "" || c.Len() != 4 || c.Evicted() != 3 {
		t.Errorf("%s%d in it, %d evicted", diff, c.Len(), c.Evicted())
	}
	for _, m := range members {
		c.leave(m, false)
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
	Known(over{over{server}})
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
		t.Errorf("got %q, want 127.0.0.1", got)
	}
}

// from is a TCP connection whose peer has an address of the test's choice.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

// strangers accepts connections that come from the addresses of its channel, the last
// byte of 10.0.0.x.
type strangers struct {
	net.Listener
	come chan byte
	conn func(net.Addr) net.Conn
}

func (s strangers) Accept() (net.Conn, error) {
	return s.conn(&net.TCPAddr{IP: net.IPv4(10, 0, 0, <-s.come), Port: 1}), nil
}

// TestRate: too many connections of one address are closed before anyone else sees them,
// and those of other addresses, and of peers that prove who they are, are not.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed []string
		c := &Crowd{Total: 100, Each: 50, PerSecond: 10, Burst: 3}
		s := strangers{come: make(chan byte, 100), conn: func(addr net.Addr) net.Conn {
			return from{closing{name: addr.String(), closed: &closed}, addr}
		}}
		ln := c.Listen(s)
		accepted := func(addrs ...byte) (got []string) {
			closed = nil
			for _, a := range addrs {
				s.come <- a
			}
			s.come <- 99 // not limited: ends each round
			for {
				conn, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if conn.RemoteAddr().String() == "10.0.0.99:1" {
					conn.(*Conn).Known()
					return got
				}
				got = append(got, conn.RemoteAddr().String())
			}
		}
		check := func(what string, got []string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		a, b := "10.0.0.1:1", "10.0.0.2:1"
		check("a burst of 3", accepted(1, 1, 1, 1, 2, 1), a, a, a, b)
		check("the others are closed", closed, a, a)
		if c.Refused() != 2 || c.Evicted() != 0 || c.Len() != 4 {
			t.Errorf("refused %d, evicted %d, in it %d; want 2, 0, 4", c.Refused(), c.Evicted(), c.Len())
		}
		check("at once again", accepted(1, 2), b)
		time.Sleep(100 * time.Millisecond)
		check("one after a tenth of a second", accepted(1, 1), a)
		for range 20 {
			accepted() // 99 is known each time
		}
	})
}

// TestNetworkIsOneSource: a neighbour with a network of IPv6 has one rate and one share for
// all of its addresses.
func TestNetworkIsOneSource(t *testing.T) {
	c := &Crowd{Total: 100, Each: 50, PerSecond: 1, Burst: 3}
	allowed := map[string]int{}
	for i := range 10 {
		for _, network := range []string{"fd00::", "fd00:0:0:1::"} {
			addr := &net.TCPAddr{IP: net.ParseIP(fmt.Sprint(network, i+1)), Port: 1}
			if c.allow(Source(from{addr: addr})) {
				allowed[network]++
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"fd00::": 3, "fd00:0:0:1::": 3}, allowed); diff != "" {
		t.Errorf("connections that are allowed (-want +got):\n%s", diff)
	}
	if got := Source(from{addr: &net.TCPAddr{IP: net.IPv6loopback, Port: 1}}); !got.IsLoopback() {
		t.Errorf("loopback is counted as %s, want as itself", got)
	}
}

// TestRateSpares checks what has no rate: the node's own connections, and a crowd without
// one.
func TestRateSpares(t *testing.T) {
	c := &Crowd{Total: 10, Each: 10, PerSecond: 1, Burst: 1}
	free := &Crowd{Total: 10, Each: 10}
	for range 100 {
		if !c.allow(netip.MustParseAddr("127.0.0.1")) || !c.allow(netip.MustParseAddr("::1")) {
			t.Fatal("a connection over loopback is refused")
		}
		if !free.allow(netip.MustParseAddr("10.0.0.1")) {
			t.Fatal("without a rate a connection is refused")
		}
	}
}

// TestSourcesAreForgotten: an attacker with many addresses does not take memory for long.
func TestSourcesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Crowd{Total: 10, Each: 10, PerSecond: 10}
		addr := netip.MustParseAddr("fd00::1")
		for i := range 100_000 {
			if i%100 == 0 {
				time.Sleep(time.Second)
			}
			c.allow(addr)
			addr = addr.Next()
		}
		if n := len(c.from); n > 2*sweepFirst {
			t.Errorf("%d sources are kept, want %d at most", n, 2*sweepFirst)
		}
	})
}

// closing is a connection that says when it is closed.
type closing struct {
	net.Conn
	name   string
	closed *[]string
}

func (c closing) Close() error { *c.closed = append(*c.closed, c.name); return nil }

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
				c.leave(m, false)
			}
		})
	}
	wg.Wait()
	if c.Len() != 0 || len(c.from) != 0 {
		t.Errorf("left: %d, %v", c.Len(), c.from)
	}
}
