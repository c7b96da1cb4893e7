package rawio

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// told is a Waiter that says so.
type told chan struct{}

func (t told) Ready() { t <- struct{}{} }

func (t told) expect(tt *testing.T, what string) {
	tt.Helper()
	select {
	case <-t:
	case <-time.After(10 * time.Second):
		tt.Fatalf("not told: %s", what)
	}
}

func (t told) expectNot(tt *testing.T, what string) {
	tt.Helper()
	select {
	case <-t:
		tt.Fatalf("told: %s", what)
	case <-time.After(20 * time.Millisecond):
	}
}

// TestWaits: what waits is told once of what arrives, also of what has arrived before, and of the
// end of the stream; and again if it waits again. When the Waits are closed, all are told.
func TestWaits(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		var ws Waits
		a, b := pair(t, addr)
		w := make(told, 10)
		await := func() {
			t.Helper()
			if _, err := ws.Await(b, w); err != nil {
				t.Fatal(err)
			}
		}
		write := func() {
			t.Helper()
			if _, err := a.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		await()
		w.expectNot(t, "nothing has arrived")
		write()
		w.expect(t, "a byte")
		write()
		w.expectNot(t, "nobody waits")
		await()
		w.expect(t, "bytes that are there already")
		if n, err := b.Read(make([]byte, 10)); n != 2 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
		await()
		w.expectNot(t, "all was read")
		_ = a.CloseWrite()
		w.expect(t, "the end of the stream")
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}

		c, d := pair(t, addr)
		defer c.Close()
		other := make(told, 10)
		if _, err := ws.Await(d, other); err != nil {
			t.Fatal(err)
		}
		_ = ws.Close()
		other.expect(t, "the end of the Waits")
		if _, err := ws.Await(d, other); !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		for _, nc := range []*Conn{a, b, d} {
			nc.Close()
		}
	}
}

// TestWaitsForget: a connection that is closed is told nothing. If it is forgotten late, its
// descriptor is another one's already, which waits on.
func TestWaitsForget(t *testing.T) {
	var ws Waits
	defer ws.Close()
	a, b := pair(t, "127.0.0.1:0")
	defer a.Close()
	first, next := make(told, 10), make(told, 10)
	if _, err := ws.Await(b, first); err != nil {
		t.Fatal(err)
	}
	b.Close()
	first.expectNot(t, "its connection was closed")
	if _, err := ws.Await(b, first); err == nil {
		t.Error("a closed connection is waited for")
	}
	c, d := pair(t, "127.0.0.1:0")
	defer c.Close()
	defer d.Close()
	fd, err := ws.Await(d, next)
	if err != nil {
		t.Fatal(err)
	}
	ws.Forget(fd, first)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	next.expect(t, "a byte")
	ws.Forget(fd, next)
	if len(ws.waiters) > 1 { // the first one's, unless its number was used again
		t.Errorf("%d connections wait, want at most one", len(ws.waiters))
	}
}
