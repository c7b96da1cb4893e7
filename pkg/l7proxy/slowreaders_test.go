package l7proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// slowPeers are the two ends that a test plays: clients, and a server. One end sends without
// end, and the other one does not read.
type slowPeers struct {
	name    string
	request string // what a client begins with
	answer  string // what the server begins with
	upload  bool   // the client sends without end
	budget  int64  // of memory, in KiB: up to 32 or 64 of them are what was read last
}

var slowPeersOf = []slowPeers{
	{name: "http1", request: get, answer: "HTTP/1.1 200 OK\r\nContent-Length: 50000000000\r\n\r\n", budget: 60},
	{name: "http1-chunked", request: get, answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", budget: 60},
	{name: "http1-upload", request: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000000\r\n\r\n", upload: true, budget: 96},
	{name: "opaque", request: "\x00", answer: "\x00", budget: 84},
	{name: "opaque-upload", request: "\x00", upload: true, budget: 84},
	{name: "tunnel", request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", answer: "HTTP/1.1 101 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", budget: 84},
}

// flood has what was sent without end, in bytes.
type flood struct{ sent atomic.Int64 }

func (f *flood) to(nc net.Conn) {
	var zeros [64 << 10]byte
	for {
		n, err := nc.Write(zeros[:])
		f.sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// stops waits until nothing more is taken from the senders.
func (f *flood) stops(t *testing.T) {
	t.Helper()
	last, calm := int64(-1), 0
	proxytest.Eventually(t, "the senders stop", func() bool {
		now := f.sent.Load()
		if calm++; now != last || now == 0 {
			last, calm = now, 0
		}
		return calm > 60
	})
}

// serve serves the server's end. stop ends the connections of a server that does not send.
func (p slowPeers) serve(t *testing.T, f *flood) (addr string, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	addr = serveConns(t, func(nc net.Conn) {
		if _, err := nc.Read(make([]byte, 256)); err != nil {
			return
		}
		if p.upload {
			<-ctx.Done()
		} else if _, err := io.WriteString(nc, p.answer); err == nil {
			f.to(nc)
		}
	})
	t.Cleanup(cancel)
	return addr, cancel
}

// dial makes the client's end of a connection, which receives next to nothing.
func (p slowPeers) dial(t *testing.T, f *flood, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }), err)
	}}
	nc, err := d.Dial("tcp", addr)
	if err == nil {
		_, err = io.WriteString(nc, p.request)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.upload {
		var sending sync.WaitGroup
		sending.Go(func() { f.to(nc) })
		t.Cleanup(func() { nc.Close(); sending.Wait() })
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// TestSlowReceiverMemory is the budget of a connection whose receiver does not read: what it
// has not taken is kept, and counted to the pod, and no buffer is.
func TestSlowReceiverMemory(t *testing.T) {
	const clients = 100
	for _, p := range slowPeersOf {
		t.Run(p.name, func(t *testing.T) {
			measure := func(addr string, f *flood) int64 {
				before := memoryInUse()
				var conns []net.Conn
				for range clients {
					conns = append(conns, p.dial(t, f, addr))
				}
				f.stops(t)
				held := memoryInUse() - before
				for _, nc := range conns {
					nc.Close()
				}
				return held / clients
			}
			var direct, meshed flood
			addr, _ := p.serve(t, &direct)
			without := measure(addr, &direct)
			e := newEnv(t)
			e.proxy.core.Tap = unwatched{}
			addr, _ = p.serve(t, &meshed)
			each := measure(e.to(addr), &meshed) - without
			t.Logf("%d bytes for each connection", each)
			if budget := memoryFactor * p.budget << 10; each > budget {
				t.Errorf("%d bytes for each connection, want at most %d", each, budget)
			}
		})
	}
}

// TestSlowReceiversAreCounted: the bytes that slow receivers make wait are charged to the
// pod, and taken back. Far over the limit exchanges are ended.
func TestSlowReceiversAreCounted(t *testing.T) {
	for _, p := range slowPeersOf {
		t.Run(p.name, func(t *testing.T) {
			below := newSlowRun(t, p, Limits{})
			c := p.dial(t, &below.flood, below.to)
			below.flood.stops(t)
			if got := below.held(); got == 0 || got > 128<<10 {
				t.Errorf("%d bytes are charged, want some, and less than 128 KiB", got)
			}
			below.end(c, 0)

			over := newSlowRun(t, p, Limits{PodBuffer: 1})
			c = p.dial(t, &over.flood, over.to)
			if p.name == "http1-upload" {
				_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil || resp.StatusCode != 503 {
					t.Errorf("an upload over the limit: got %v, %v, want 503", resp, err)
				}
			}
			ended := tap.ResponseEnd
			if p.request == "\x00" {
				ended = tap.ConnClose
			}
			if ev := over.tap.Wait(t, ended, 0); ev.Reason != mesh.ReasonOverload {
				t.Errorf("the exchange has ended with %v, want %v", ev.Reason, mesh.ReasonOverload)
			}
			over.end(c, 1)
		})
	}
}

// slowRun is a proxy between slow peers.
type slowRun struct {
	*env
	flood flood
	to    string
	stop  func()
}

func newSlowRun(t *testing.T, p slowPeers, limits Limits) *slowRun {
	r := &slowRun{env: newEnvWith(t, limits)}
	var addr string
	addr, r.stop = p.serve(t, &r.flood)
	r.to = r.env.to(addr)
	return r
}

// held is what is charged to the pod.
func (r *slowRun) held() int64 {
	_, held := r.proxy.pods.Of(quota.Key{UID: r.local.UID, Direction: mesh.Outbound})
	return held
}

// end ends the connection. hits is how many exchanges were ended for the limit.
func (r *slowRun) end(c net.Conn, hits uint64) {
	r.t.Helper()
	if got := r.proxy.LimitHits()["pod-buffer-ended"]; got != hits {
		r.t.Errorf("%d exchanges were ended for the limit, want %d", got, hits)
	}
	c.Close()
	r.stop()
	proxytest.Eventually(r.t, "nothing is charged", func() bool { return r.held() == 0 })
}
