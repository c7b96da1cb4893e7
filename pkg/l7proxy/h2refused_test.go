package l7proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// refusals is a server that refuses the first so many streams of all its connections,
// and echoes the others.
func refusals(t *testing.T, refused int64) (addr string, streams *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams = new(atomic.Int64)
	refuse := func(_ net.Conn, c *http2.Conn, id uint32) {
		if streams.Add(1) <= refused {
			c.WriteReset(id, http2.RefusedStream)
			return
		}
		_ = c.WriteHeaders(id, []http2.Field{{Name: ":status", Value: "204"}}, true)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { echoConn(nc, refuse) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String(), streams
}

// TestH2RefusedOften: a request that a server refuses is sent again until it is taken,
// five times at most, on two connections in turn; then the refusal is passed on.
func TestH2RefusedOften(t *testing.T) {
	for name, tc := range map[string]struct {
		refused, streams int64
		timeout          string
		ok               bool
	}{
		"once":               {refused: 1, streams: 2, ok: true},
		"five times":         {refused: 5, streams: 6, ok: true},
		"for ever":           {refused: 1 << 40, streams: 6},
		"past the deadline":  {refused: 1 << 40, streams: 3, timeout: "25m"},
		"and a distant date": {refused: 4, streams: 5, timeout: "10S", ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			addr, streams := refusals(t, tc.refused)
			e := newH2Env(t, addr)
			req, err := http.NewRequest("POST", e.url("/"), strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			if tc.timeout != "" {
				req.Header.Set("Content-Type", "application/grpc")
				req.Header.Set("Grpc-Timeout", tc.timeout)
			}
			req.GetBody = nil // else the client, too, sends it again
			req.Body = io.NopCloser(strings.NewReader("hello"))
			resp, err := e.client().Do(req)
			if err == nil {
				resp.Body.Close()
			}
			switch {
			case tc.ok && (err != nil || resp.StatusCode != http.StatusNoContent):
				t.Errorf("got %v, %v; want status 204", resp, err)
			case !tc.ok && err == nil:
				t.Errorf("got status %d, want the refusal", resp.StatusCode)
			}
			if got := streams.Load(); got != tc.streams && (tc.timeout == "" || got > tc.streams) {
				t.Errorf("got %d attempts, want %d", got, tc.streams)
			}
			e.target.mu.Lock()
			if got := e.target.dials; got > 2 {
				t.Errorf("got %d connections, want 2 at most", got)
			}
			e.target.mu.Unlock()
			ev := e.tap.end(t, 0)
			want := mesh.ReasonNone
			if !tc.ok {
				want = mesh.ReasonUpstreamReset
			}
			if ev.Reason != want || !tc.ok && ev.ResetCode != uint32(http2.RefusedStream) {
				t.Errorf("tap: got %v, code %d; want %v", ev.Reason, ev.ResetCode, want)
			}
		})
	}
}
