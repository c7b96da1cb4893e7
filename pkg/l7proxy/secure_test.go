package l7proxy

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

// TestBulkThroughMTLS: opaque bytes both ways between two agents arrive as they
// were sent, in pieces of any size, and both ends as ends.
func TestBulkThroughMTLS(t *testing.T) {
	const there, back = 24<<20 + 12345, 3<<20 + 7
	client, clientSide := rawPair(t)
	serverSide, server := rawPair(t)
	tlsClient, tlsServer, _ := tlsPair(t)
	upstream := secure(tlsClient, tlsClient.NetConn().(*transport))
	downstream := secure(tlsServer, tlsServer.NetConn().(*transport))
	var agents sync.WaitGroup
	for name, r := range map[string]*relay{
		"client's": {client: clientSide, server: upstream},
		"server's": {client: downstream, server: serverSide},
	} {
		agents.Go(func() {
			if reason := r.run(nil, nil); reason != mesh.ReasonNone {
				t.Errorf("the %s agent: %v", name, reason)
			}
		})
	}
	var apps sync.WaitGroup
	exchange := func(c *rawio.Conn, sends, gets int64) {
		apps.Go(func() {
			// Small pieces first, with pauses, and then as fast as it goes.
			p := &pattern{n: sends}
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
			if got, n, err := sum(c); err != nil || n != gets || got != patternSum(gets) {
				t.Errorf("%d bytes of %d, or their content differs: %v", n, gets, err)
			}
		})
	}
	exchange(client, there, back)
	exchange(server, back, there)
	apps.Wait()
	agents.Wait()
	if upstream.below.ahead != nil || downstream.below.ahead != nil {
		t.Error("a buffer is kept")
	}
}

// rawPair is a connection's two ends.
func rawPair(t testing.TB) (a, b *rawio.Conn) {
	t.Helper()
	l := rawListen(t)
	a, err := (&loopback{}).Dial(t.Context(), "", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}
