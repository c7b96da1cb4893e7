package l7proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

// TestWaitingRequestMemory is the budget of a request whose response does not come, or does
// not go on, or whose body does not: pods wait for events so, thousands of requests at a
// time, and nothing bounds how long. Most of it is the stack of the session's goroutine: one of
// the next size is 8 KiB more.
func TestWaitingRequestMemory(t *testing.T) {
	const clients = 200
	large := "X: " + strings.Repeat("x", 3000) + "\r\n"
	for name, p := range map[string]struct {
		request, rest, answer string
		budget                int64 // in KiB
	}{
		"response":         {get, "", "", 22},
		"response's body":  {get, "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 22},
		"of a larger head": {"GET / HTTP/1.1\r\nHost: x\r\n" + large + "\r\n", "", "", 30},
		"after a large head": {
			"GET / HTTP/1.1\r\nHost: x\r\n" + large + large + "\r\n", "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 26,
		},
		"request's body": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx", "", "", 28},
		"after a body":   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx", "x", "", 28},
	} {
		t.Run(name, func(t *testing.T) {
			measure := func(to func(addr string) string) int64 {
				ctx, cancel := context.WithCancel(context.Background())
				arrived := make(chan struct{}, clients)
				addr := serveConns(t, func(nc net.Conn) {
					if _, err := io.ReadFull(nc, make([]byte, len(p.request))); err != nil {
						return
					}
					if p.rest != "" {
						arrived <- struct{}{}
						if _, err := io.ReadFull(nc, make([]byte, len(p.rest))); err != nil {
							return
						}
					}
					_, _ = io.WriteString(nc, p.answer)
					arrived <- struct{}{}
					<-ctx.Done()
				})
				t.Cleanup(cancel)
				addr = to(addr)
				before := memoryInUse()
				for range clients {
					nc, err := net.Dial("tcp", addr)
					if err == nil {
						_, err = io.WriteString(nc, p.request)
					}
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { nc.Close() })
					<-arrived
					if p.rest != "" {
						_, _ = io.WriteString(nc, p.rest)
						<-arrived
					}
					if _, err := io.ReadFull(nc, make([]byte, len(p.answer))); err != nil {
						t.Fatal(err)
					}
				}
				return (memoryInUse() - before) / clients
			}
			without := measure(func(addr string) string { return addr })
			e := newEnv(t)
			e.proxy.core.Tap = unwatched{}
			each := measure(e.to) - without
			t.Logf("%d bytes for each request", each)
			if budget := memoryFactor * p.budget << 10; each > budget {
				t.Errorf("%d bytes for each request, want at most %d", each, budget)
			}
		})
	}
}
