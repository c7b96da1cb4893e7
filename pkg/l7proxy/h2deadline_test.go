package l7proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

func TestGRPCTimeout(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "30S": 30 * time.Second, "1500m": 1500 * time.Millisecond,
		"7u": 7 * time.Microsecond, "12345678n": 12345678, "0S": 0,
	} {
		if got, ok := grpcTimeout(value); got != want || !ok {
			t.Errorf("%s: %v %v", value, got, ok)
		}
	}
	for _, value := range []string{"", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", " 1S", "99999999H"} {
		if got, ok := grpcTimeout(value); ok {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// TestH2CallDeadline: a call that neither side ends at its deadline is ended a
// moment later, one without deadline never, and nothing ticks on a connection
// whose calls have none.
func TestH2CallDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &h2recorder{}
		target := &memoryTarget{t: t, servers: make(chan memory, 1)}
		target.backends = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}
		proxy := New(Options{Tap: rec, Log: slog.New(slog.DiscardHandler)})
		nc, proxyClient := memoryPipe(t)
		session := &Session{proxy: proxy, ID: 1, Client: proxyClient, target: target}
		var running sync.WaitGroup
		running.Go(func() { session.serveHTTP2(context.Background()) })
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
			for srv := range proxy.h2.sessions {
				srv.mu.Lock()
				defer srv.mu.Unlock()
				return srv.deadlines.watching
			}
			return false
		}
		if watching() {
			t.Error("deadlines are looked for where there are none")
		}
		began := time.Now()
		const grace = h2DeadlineGrace + h2DeadlineLook
		call(3, "grpc-timeout", "3S")
		s.next()
		call(5, "grpc-timeout", "5S")
		s.next()
		s.headers(5, false, ":status", "200", "content-type", "application/grpc")
		c.want("HEADERS 5 :status=200 content-type=application/grpc")
		c.want("HEADERS 3 :status=200 content-type=application/grpc grpc-status=4 grpc-message=a time limit passed underlane-reason=timeout END")
		s.want("RST_STREAM 3 CANCEL")
		if took := time.Since(began); took < 3*time.Second+h2DeadlineGrace || took > 3*time.Second+grace {
			t.Errorf("ended after %v", took)
		}
		c.want("HEADERS 5 grpc-status=4 grpc-message=a time limit passed underlane-reason=timeout END")
		s.want("RST_STREAM 5 CANCEL")
		if took := time.Since(began); took < 5*time.Second+h2DeadlineGrace || took > 5*time.Second+grace {
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
