package conn_test

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

// TestBulkThroughMTLS: opaque bytes both ways between two agents arrive as they
// were sent, in pieces of any size, and both ends as ends.
func TestBulkThroughMTLS(t *testing.T) {
	const there, back = 24<<20 + 12345, 3<<20 + 7
	client, clientSide := proxytest.Pair(t)
	serverSide, server := proxytest.Pair(t)
	upstream, downstream, _ := proxytest.TLSPair(t)
	var agents sync.WaitGroup
	for name, r := range map[string]*conn.Relay{
		"client's": {Client: conn.Plain{Conn: clientSide}, Server: upstream},
		"server's": {Client: downstream, Server: conn.Plain{Conn: serverSide}},
	} {
		agents.Go(func() {
			if reason := r.Run(nil, nil); reason != mesh.ReasonNone {
				t.Errorf("the %s agent: %v", name, reason)
			}
		})
	}
	var apps sync.WaitGroup
	exchange := func(c *rawio.Conn, sends, gets int64) {
		apps.Go(func() {
			// Small pieces first, with pauses, and then as fast as it goes.
			p := proxytest.NewPattern(sends)
			for size := int64(1); size < 40000; size *= 3 {
				if _, err := io.CopyN(c, p, size); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{c}, p, make([]byte, 100_000)); err != nil {
				t.Error(err)
			}
			_ = c.CloseWrite()
		})
		apps.Go(func() {
			if got, n, err := proxytest.Sum(c); err != nil || n != gets || got != proxytest.PatternSum(gets) {
				t.Errorf("%d bytes of %d, or their content differs: %v", n, gets, err)
			}
		})
	}
	exchange(client, there, back)
	exchange(server, back, there)
	apps.Wait()
	agents.Wait()
	if upstream.HoldsBuffer() || downstream.HoldsBuffer() {
		t.Error("a buffer is kept")
	}
}

// TestSecureAwait: Await waits until there is something to read, and takes nothing from the
// reads after it, whatever the sizes of records and of the reader's buffer. The end comes
// as the end, and during a Hold Await sends what is held.
func TestSecureAwait(t *testing.T) {
	client, server, _ := proxytest.TLSPair(t)
	awaited := make(chan error)
	await := func() { awaited <- client.Await() }
	for _, size := range []int{1, 2, 100, 16 << 10, 40_000} {
		for _, room := range []int{1, 7, 64 << 10} {
			go await()
			select {
			case err := <-awaited:
				t.Fatalf("Await has returned %v before anything was sent", err)
			case <-time.After(time.Millisecond):
			}
			sent := make([]byte, size)
			_, _ = proxytest.NewPattern(int64(size)).Read(sent)
			go func() { _, _ = server.Write(sent) }()
			if err := <-awaited; err != nil {
				t.Fatal(err)
			}
			var got []byte
			for buf := make([]byte, room); len(got) < size; {
				if err := client.Await(); err != nil {
					t.Fatal(err)
				}
				n, err := client.Read(buf)
				if got = append(got, buf[:n]...); err != nil || n == 0 {
					t.Fatalf("after %d bytes of %d: got %d and %v", len(got), size, n, err)
				}
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes in reads of %d differ from what was sent", size, room)
			}
		}
	}
	client.Raw().Hold(nil)
	if _, err := client.Write([]byte("held")); err != nil {
		t.Fatal(err)
	}
	go await()
	buf := make([]byte, 10)
	if n, err := server.Read(buf); string(buf[:n]) != "held" || err != nil {
		t.Errorf("the peer got %q and %v, want what was held", buf[:n], err)
	}
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-awaited; err != nil {
		t.Errorf("at the end Await returned %v, want nil", err)
	}
	if n, err := client.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("at the end: got %d bytes and %v, want %v", n, err, io.EOF)
	}
}
