package conn_test

import (
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
