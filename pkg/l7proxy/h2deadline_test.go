package l7proxy

import (
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/h2"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestH2CallDeadline: a call that neither side ends at its deadline is ended a
// moment later, one without deadline never, and nothing ticks on a connection
// whose calls have none.
func TestH2CallDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &h2recorder{}
		proxy, target := newMemoryProxy(t, Options{Tap: rec, Log: slog.New(slog.DiscardHandler)})
		nc, proxyClient := memoryPipe(t)
		session := sessionOf(proxy, memoryConn{proxyClient}, target)
		var running sync.WaitGroup
		running.Go(func() { proxy.h2.Serve(session) })
		c := clientFrames(t, nc)
		call := func(id uint32, more ...string) {
			c.headers(id, true, append([]string{
				":method", "POST", ":scheme", "http", ":path", "/t.T/M", ":authority", "svc", "content-type", "application/grpc", "te", "trailers",
			}, more...)...)
		}
		call(1)
		serverNC := <-target.servers
		s := serverFrames(t, serverNC, serverNC)
		s.next()
		watching := func() bool {
			synctest.Wait()
			return proxy.h2.Stats().WatchingDeadlines > 0
		}
		if watching() {
			t.Error("deadlines are looked for where there are none")
		}
		began := time.Now()
		const grace = h2.DeadlineGrace + h2.DeadlineLook
		call(3, "grpc-timeout", "3S")
		s.next()
		call(5, "grpc-timeout", "5S")
		s.next()
		s.headers(5, false, ":status", "200", "content-type", "application/grpc")
		c.want("HEADERS 5 :status=200 content-type=application/grpc")
		c.want("HEADERS 3 :status=200 content-type=application/grpc grpc-status=4 grpc-message=a time limit passed underlane-reason=timeout END")
		s.want("RST_STREAM 3 CANCEL")
		if took := time.Since(began); took < 3*time.Second+h2.DeadlineGrace || took > 3*time.Second+grace {
			t.Errorf("ended after %v", took)
		}
		c.want("HEADERS 5 grpc-status=4 grpc-message=a time limit passed underlane-reason=timeout END")
		s.want("RST_STREAM 5 CANCEL")
		if took := time.Since(began); took < 5*time.Second+h2.DeadlineGrace || took > 5*time.Second+grace {
			t.Errorf("ended after %v", took)
		}
		time.Sleep(time.Minute)
		if watching() {
			t.Error("deadlines are looked for where there are none left")
		}
		s.headers(1, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "0")
		c.want("HEADERS 1 :status=200 content-type=application/grpc grpc-status=0 END")
		call(7, "grpc-timeout", "99S") // ends with its connection
		s.next()
		nc.Close()
		s.want("RST_STREAM 7 CANCEL")
		serverNC.Close()
		running.Wait()
		if end := rec.end(t, 0); end.Reason != mesh.ReasonTimeout || end.GRPCStatus != 4 {
			t.Errorf("tap: %v %d", end.Reason, end.GRPCStatus)
		}
	})
}
