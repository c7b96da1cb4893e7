package rawio

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUrgentByte: an urgent byte stays in the stream at its place, at the side that
// accepts and at the one that connects. Without SO_OOBINLINE it would be missing.
func TestUrgentByte(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		client, server := pair(t, addr)
		for name, side := range map[string]struct{ from, to *Conn }{
			"accepted": {client, server}, "connected": {server, client},
		} {
			send := func(text string, flags int) {
				t.Helper()
				if err := side.from.control("send", func(fd int) error { return unix.Sendto(fd, []byte(text), flags, nil) }); err != nil {
					t.Fatal(err)
				}
			}
			send("ab", 0)
			send("c!", unix.MSG_OOB) // the last byte is the urgent one
			send("de", 0)
			got := make([]byte, 6)
			_ = side.to.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := io.ReadFull(side.to, got); err != nil || string(got) != "abc!de" {
				t.Errorf("%s at %s: read %q, %v, want %q", name, addr, got[:n], err, "abc!de")
			}
		}
	}
}
