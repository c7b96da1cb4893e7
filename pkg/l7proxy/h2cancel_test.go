package l7proxy

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// TestH2CancelledDownloads: streams that their client does not read, and then cancels,
// end at the server, by way of two proxies as between nodes. A reset and what opens a
// stream's window come in one read: what is pending for the stream is not to be taken
// for its end then.
func TestH2CancelledDownloads(t *testing.T) {
	const streams = 20
	var running atomic.Int64
	backend, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		for buf := make([]byte, 16<<10); r.Context().Err() == nil; {
			if _, err := w.Write(buf); err != nil {
				return
			}
		}
	})
	server := newH2Env(t, backend)
	client := startH2Env(t, Limits{IdleTimeout: time.Minute}, server.addr)
	c := client.client()
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		var answered atomic.Int64
		for range streams {
			all.Go(func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, client.url("/"), nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				answered.Add(1)
				<-ctx.Done()
				resp.Body.Close()
			})
		}
		proxytest.Eventually(t, "all streams run", func() bool { return running.Load() == streams && answered.Load() == streams })
		time.Sleep(100 * time.Millisecond) // until their windows are full
		cancel()
		all.Wait()
		proxytest.Eventually(t, "the server's streams end", func() bool { return running.Load() == 0 })
	}
}
