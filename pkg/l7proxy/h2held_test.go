package l7proxy

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestH2RetriesACallThatFailsInTrailers: a gRPC server may send its metadata before it
// knows that the call fails. The status comes in trailers then, after a head without
// messages, and is retried as one in the head is.
func TestH2RetriesACallThatFailsInTrailers(t *testing.T) {
	const until = 20 * time.Second // at most
	for name, tt := range map[string]struct {
		pause   time.Duration // between the head and what follows; until: until the client has the head
		message bool          // before the status
		status  string        // of the first attempt
		calls   int64
		want    string // grpc-status
	}{
		"head and trailers at once":    {0, false, "14", 2, "0"},
		"trailers later":               {10 * time.Millisecond, false, "14", 2, "0"},
		"trailers much later":          {until, false, "14", 1, "14"},
		"a message before":             {0, true, "14", 1, "14"},
		"a status that is not retried": {0, false, "5", 1, "5"},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			arrived := make(chan struct{}) // closed when the client has the head
			s := newShop(t)
			s.h2handler(t, "apex", func(w http.ResponseWriter, _ *http.Request) {
				status := "0"
				if calls.Add(1) == 1 {
					status = tt.status
				}
				w.Header().Set("Content-Type", "application/grpc")
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
				if pause := time.After(tt.pause); tt.pause == until {
					select {
					case <-arrived:
					case <-pause:
						t.Errorf("the head is held for longer than a moment")
					}
				} else {
					<-pause
				}
				if tt.message {
					_, _ = w.Write([]byte("\x00\x00\x00\x00\x00"))
				}
				w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
			})
			s.route(mesh.RouteRule{
				Backends: []mesh.RouteBackend{to("apex", 1)},
				Retry:    &mesh.RouteRetry{GRPCCodes: []uint8{14}, Attempts: 1, Backoff: time.Millisecond},
			})
			c := s.h2apex()
			req := c.request("POST", "/t.T/M", nil)
			req.Header.Set("Content-Type", "application/grpc")
			resp, err := c.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			close(arrived)
			if _, err := io.ReadAll(resp.Body); err != nil {
				t.Error(err)
			}
			resp.Body.Close()
			if got := resp.Trailer.Get("Grpc-Status"); got != tt.want || calls.Load() != tt.calls {
				t.Errorf("got grpc-status %q after %d calls, want %q after %d", got, calls.Load(), tt.want, tt.calls)
			}
			if ev := s.tap.Wait(t, tap.ResponseEnd, 0); fmt.Sprint(ev.GRPCStatus) != tt.want || ev.Retries != int(tt.calls)-1 {
				t.Errorf("tap has status %d and %d retries, want %s and %d", ev.GRPCStatus, ev.Retries, tt.want, tt.calls-1)
			}
		})
	}
}
