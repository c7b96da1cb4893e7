package observe

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkHTTP1 reads requests and responses of HTTP/1: two segments and three events each.
func BenchmarkHTTP1(b *testing.B) {
	k := newConn()
	var list []*Segment
	for range b.N {
		list = append(list,
			k.segment(client, "GET /api/things?page=2 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"),
			k.segment(server, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"))
	}
	readAll(b, k, list)
}

// BenchmarkGRPC reads calls of gRPC: two segments and three events each.
func BenchmarkGRPC(b *testing.B) {
	k := newConn()
	c, s := newPeer(client), newPeer(server)
	var list []*Segment
	for i := range uint32(b.N) {
		stream := 2*i + 1
		c.call(stream, "/pkg.Service/Method")
		_ = c.framer.WriteData(stream, true, []byte("0123456789"))
		s.headers(stream, false, ":status", "200", "content-type", "application/grpc")
		_ = s.framer.WriteData(stream, false, []byte("0123456789"))
		s.headers(stream, true, "grpc-status", "0")
		list = append(list, k.segment(client, c.take()), k.segment(server, s.take()))
	}
	readAll(b, k, list)
}

// readAll reads segments, and reports the processor's time of the process, that of the
// collector included.
func readAll(b *testing.B, k *conn, list []*Segment) {
	events := 0
	w := New(DefaultLimits, func(Kind, *Request) { events++ })
	b.ReportAllocs()
	b.ResetTimer()
	began := processor(b)
	for _, s := range list {
		k.take(w, s)
	}
	spent := processor(b) - began
	b.StopTimer()
	if n := w.Counts(); events != 3*b.N || n.Gaps+n.Refused+n.Dropped > 0 {
		b.Errorf("%d events of %d calls, counts %+v", events, b.N, n)
	}
	b.ReportMetric(float64(spent)/float64(len(list)), "cpu-ns/segment")
	b.ReportMetric(float64(spent)/float64(events), "cpu-ns/event")
}

func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
