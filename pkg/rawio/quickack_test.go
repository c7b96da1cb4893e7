package rawio

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestQuickAck: a peer with Nagle's algorithm on, which writes a message in two
// writes, need not wait for a delayed acknowledgement before the second.
func TestQuickAck(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	raw, _ := server.SyscallConn()
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 0) })
	buf := make([]byte, 100)
	write := func(c *Conn, s string) {
		t.Helper()
		if _, err := c.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(c *Conn) string {
		t.Helper()
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	var took []time.Duration
	for range 20 {
		write(client, "ask")
		if got := read(server); got != "ask" {
			t.Fatalf("got %q", got)
		}
		write(server, "head")
		write(server, "body")
		got, began := read(client), time.Now()
		for got != "headbody" {
			client.QuickAck()
			got += read(client)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median >= 40*time.Millisecond {
		t.Errorf("the second piece took %s", median)
	}
	if n := testing.AllocsPerRun(100, client.QuickAck); n != 0 {
		t.Errorf("%v allocations", n)
	}
	client.Close()
	client.QuickAck() // has no effect
}
