package rawio

import (
	"sync/atomic"
	"testing"
	"time"
)

// hungUp waits for a call, or for the time in which none is to come.
func hungUp(calls <-chan struct{}, within time.Duration) bool {
	select {
	case <-calls:
		return true
	case <-time.After(within):
		return false
	}
}

// TestHangups: the end of a peer is told though nothing reads, and nothing else is.
func TestHangups(t *testing.T) {
	ends := map[string]func(c *Conn){
		"close": func(c *Conn) { c.Close() },
		"shut":  func(c *Conn) { _ = c.CloseWrite() },
		"reset": func(c *Conn) { _ = c.Reset(); c.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			var h Hangups
			defer h.Close()
			client, server := pair(t, "127.0.0.1:0")
			calls := make(chan struct{}, 10)
			if err := server.OnHangup(&h, func() { calls <- struct{}{} }); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Write([]byte("not read")); err != nil {
				t.Fatal(err)
			}
			if hungUp(calls, 50*time.Millisecond) {
				t.Fatal("told a hang-up: bytes came")
			}
			end(client)
			if !hungUp(calls, time.Minute) {
				t.Fatal("no hang-up was told")
			}
			if ended, gone := server.PeerState(); !ended || gone != (name == "reset") {
				t.Errorf("peer ended %v, gone %v after %s", ended, gone, name)
			}
		})
		t.Run(name+" before", func(t *testing.T) {
			var h Hangups
			defer h.Close()
			client, server := pair(t, "127.0.0.1:0")
			end(client)
			eventually(t, "the end arrives", server.HungUp)
			calls := make(chan struct{}, 10)
			if err := server.OnHangup(&h, func() { calls <- struct{}{} }); err != nil {
				t.Fatal(err)
			}
			if !hungUp(calls, time.Minute) {
				t.Fatal("no hang-up was told")
			}
		})
	}
}

// TestHangupAfterHalfClose: a reset that follows a FIN is told as well.
func TestHangupAfterHalfClose(t *testing.T) {
	var h Hangups
	defer h.Close()
	client, server := pair(t, "127.0.0.1:0")
	calls := make(chan struct{}, 10)
	if err := server.OnHangup(&h, func() { calls <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	_ = client.CloseWrite()
	if !hungUp(calls, time.Minute) {
		t.Fatal("the FIN was not told")
	}
	_ = client.Reset()
	client.Close()
	if !hungUp(calls, time.Minute) {
		t.Fatal("the reset was not told")
	}
}

// TestHangupsForget: a connection that is closed is not told of, and its descriptor's
// number may be another connection's.
func TestHangupsForget(t *testing.T) {
	var h Hangups
	defer h.Close()
	var stale atomic.Int32
	for range 100 {
		client, server := pair(t, "127.0.0.1:0")
		var closed atomic.Bool
		if err := server.OnHangup(&h, func() {
			if closed.Load() {
				stale.Add(1)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if err := server.OnHangup(&h, func() {}); err == nil {
			t.Fatal("the connection is watched twice")
		}
		server.Close()
		closed.Store(true)
		client.Close()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watch) != 0 {
		t.Errorf("%d of 100 closed connections are remembered", len(h.watch))
	}
	if n := stale.Load(); n != 0 {
		t.Errorf("%d calls for closed connections", n)
	}
}

// TestHangupsClosed: nothing can be watched any more.
func TestHangupsClosed(t *testing.T) {
	var h Hangups
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	_, server := pair(t, "127.0.0.1:0")
	if err := server.OnHangup(&h, func() {}); err == nil {
		t.Fatal("got no error")
	}
}
