package l7proxy

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestH1ChunksWait: a body that is mostly framing arrives whole, and slowly; one that is
// not arrives at once. Of requests and of responses.
func TestH1ChunksWait(t *testing.T) {
	const (
		burst, rate = 128 << 10, 256 << 10
		ends        = "0\r\n\r\n"
	)
	small := strings.Repeat("1\r\nx\r\n", 80_000) // 3 bytes of framing a chunk, less twice its content
	waits := time.Duration(3*80_000-burst-64<<10) * time.Second / rate
	for name, c := range map[string]struct {
		body  string
		least time.Duration
	}{
		"small": {small + ends, waits},
		"large": {strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 4000) + ends, 0},
	} {
		for _, direction := range []string{"request", "response"} {
			t.Run(name+"/"+direction, func(t *testing.T) {
				e, b := newEnv(t), newBackend(t)
				cl := e.dial(b.addr)
				head := "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
				from, to := cl, cl
				if direction == "request" {
					cl.send(head)
					to = b.request()
				} else {
					head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
					cl.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					from = b.request()
					from.expect("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					from.send(head)
				}
				to.expect(head)
				began := time.Now()
				go func() { _, _ = io.WriteString(from.TCPConn, c.body) }()
				got := make([]byte, len(c.body))
				if _, err := io.ReadFull(to.r, got); err != nil {
					t.Fatal(err)
				}
				if string(got) != c.body {
					t.Error("the body has changed")
				}
				if took := time.Since(began); took < c.least {
					t.Errorf("took %v, want at least %v", took, c.least)
				}
				if direction == "request" { // the exchange goes on
					to.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					from.expect("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
		}
	}
}

// TestFramingOfManyConnections: connections of one pod that send what each of them may send
// of framing at once wait when all of them together have sent as much as four.
func TestFramingOfManyConnections(t *testing.T) {
	const (
		conns = 16
		each  = 128 << 10 // bytes of framing, that a connection may send at once
		all   = 512 << 10
		rate  = 1 << 20 // a second, of all
		// What a connection reads last does not wait: 64 KiB at most.
		least = (conns*(each-64<<10) - all) * time.Second / rate
	)
	flood := func(t *testing.T, one func(c *client)) {
		t.Helper()
		e, addr := newEnv(t), serveConns(t, func(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) })
		to := e.to(addr)
		var clients []*client
		for range conns {
			clients = append(clients, dialTCP(t, to))
		}
		began := time.Now()
		var all sync.WaitGroup
		for _, c := range clients {
			all.Go(func() { one(c) })
		}
		all.Wait()
		if took := time.Since(began); took < least {
			t.Errorf("took %v, want at least %v", took, least)
		}
	}
	t.Run("http1", func(t *testing.T) {
		body := strings.Repeat("1\r\nx\r\n", each/3) + "bad" // is answered when all before it was read
		flood(t, func(c *client) {
			_, _ = io.WriteString(c.TCPConn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c.r)
		})
	})
	t.Run("http2", func(t *testing.T) {
		var frames strings.Builder
		fr := http2.NewFramer(&frames, nil)
		frames.WriteString(http2.ClientPreface)
		_ = fr.WriteSettings()
		for range each / 17 {
			_ = fr.WritePing(true, [8]byte{})
		}
		_ = fr.WritePing(false, [8]byte{1})
		flood(t, func(c *client) {
			_, _ = io.WriteString(c.TCPConn, frames.String())
			for fr := http2.NewFramer(nil, c.r); ; {
				f, err := fr.ReadFrame()
				if err != nil {
					t.Errorf("before the answer to the last frame: %v", err)
					return
				}
				if p, ok := f.(*http2.PingFrame); ok && p.IsAck() {
					return
				}
			}
		})
	})
}
