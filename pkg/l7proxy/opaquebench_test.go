package l7proxy

import (
	"io"
	"net"
	"testing"
	"time"
)

// BenchmarkOpaque is a message and its echo through an opaque connection, and bytes in one
// direction.
func BenchmarkOpaque(b *testing.B) {
	echo := serveConns(b, func(nc net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{nc}, make([]byte, 4<<10))
	})
	drain := serveConns(b, func(nc net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{nc}, make([]byte, 256<<10))
	})
	for name, bench := range map[string]struct {
		server  string
		message []byte
	}{
		"echo":     {echo, []byte("\x00message")},
		"one way":  {drain, make([]byte, 256<<10)},
		"one 8KiB": {drain, make([]byte, 8<<10)},
	} {
		b.Run(name, func(b *testing.B) {
			e := newEnv(b)
			e.proxy.core.Tap = unwatched{}
			nc := dialTCP(b, e.to(bench.server))
			_ = nc.SetDeadline(time.Time{})
			answer := make([]byte, len(bench.message))
			b.ReportAllocs()
			b.SetBytes(int64(len(bench.message)))
			for b.Loop() {
				if _, err := nc.Write(bench.message); err != nil {
					b.Fatal(err)
				}
				if bench.server == echo {
					if _, err := io.ReadFull(nc, answer); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkOpaqueNew is a connection between two nodes for each message, as a stream of a shared
// connection: both agents, the client and the server.
func BenchmarkOpaqueNew(b *testing.B) {
	echo := serveConns(b, func(nc net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{nc}, make([]byte, 4<<10))
	})
	a := newAgents(b, echo, Limits{})
	for _, e := range []*env{a.client, a.server} {
		e.proxy.core.Tap = unwatched{}
	}
	to := a.client.to(a.addr.String())
	a.warmEcho(to)
	b.ReportAllocs()
	for b.Loop() {
		if err := echoOnce(to); err != nil {
			b.Fatal(err)
		}
	}
}
