package rawio

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAwait: Await returns when bytes, the end or a reset have come, whether it has waited
// or not, takes no byte, and takes its turn.
func TestAwait(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(c *Conn)
		want error // of Await
		read error // of the Read after it; nil: it returns a byte
	}{
		"bytes": {do: func(c *Conn) { _, _ = c.Write([]byte("a")) }},
		"end":   {do: func(c *Conn) { _ = c.CloseWrite() }, read: io.EOF},
		"reset": {do: func(c *Conn) { _ = c.Reset(); c.Close() }, want: unix.ECONNRESET},
	} {
		for _, before := range []bool{true, false} {
			client, server := pair(t, "127.0.0.1:0")
			var r turns
			server.ReadsInTurn(&r)
			waits := func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.said) == 1 }
			if before {
				test.do(client)
				eventually(t, "it arrives", func() bool { return server.HungUp() || server.Pending() > 0 })
			} else {
				go func() {
					eventually(t, "Await waits", waits)
					test.do(client)
				}()
			}
			err := server.Await()
			var n int
			if err == nil {
				n, err = server.Read(make([]byte, 10))
				if !errors.Is(err, test.read) || (n == 1) != (test.read == nil) {
					// A reset that comes while Await waits is the error of the Read.
					if !errors.Is(err, test.want) || test.want == nil {
						t.Errorf("%s, before Await %v: then Read got %d bytes and %v, want %v", name, before, n, err, test.read)
					}
				}
			} else if !errors.Is(err, test.want) || test.want == nil {
				t.Errorf("%s, before Await %v: got %v, want %v", name, before, err, test.want)
			}
			if said := r.took(); !before && (len(said) < 2 || said[0] != "pause" || said[1] != "resume") {
				t.Errorf("%s: said %v, want pause and resume first", name, said)
			}
		}
	}
	_, server := pair(t, "127.0.0.1:0")
	_ = server.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if err := server.Await(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: got %v, want %v", err, os.ErrDeadlineExceeded)
	}
}
