package l7proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// borders are sizes of heads at which a session takes another buffer for them, and some
// between.
var borders = []int{
	100, 1<<10 - 1, 1 << 10, 1<<10 + 1, 2000, 4<<10 - 1, 4 << 10, 4<<10 + 1, 8 << 10,
	32<<10 - 1, 32 << 10, 32<<10 + 1, 60_000,
}

// headOf returns the head of a request, of size bytes.
func headOf(t *testing.T, method, fields string, size int) string {
	t.Helper()
	const line, end = " / HTTP/1.1\r\nHost: x\r\n", "\r\n\r\n"
	pad := size - len(method+line+fields+"X: "+end)
	if pad < 0 {
		t.Fatalf("a head of %d bytes has no room for its fields", size)
	}
	return method + line + fields + "X: " + strings.Repeat("x", pad) + end
}

// TestH1BodyThatStaysAway: a server answers early, and ends the connection, a request whose
// body never comes. The client's connection ends as well, whatever the size of the head.
func TestH1BodyThatStaysAway(t *testing.T) {
	const answer = "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	var clients []*client
	for _, size := range borders {
		c := dialTCP(t, to)
		head := headOf(t, "POST", "Content-Length: 10\r\n", size)
		c.send(head)
		srv := b.request()
		srv.expect(head)
		srv.send(answer)
		clients = append(clients, c)
	}
	for _, c := range clients {
		c.expect(answer)
		c.expectEnd(nil)
	}
	proxytest.Eventually(t, fmt.Sprintf("the sessions of %d clients that send no more have ended", len(clients)), func() bool {
		return e.group.Open() == 0
	})
}

// TestH1MethodOfRetries: whether a request may be repeated depends on its method also when
// its body has come since, into the buffer that its head was in. A POST is retried as the
// route says, and not once more because its retry came to a connection that has ended.
func TestH1MethodOfRetries(t *testing.T) {
	for range 10 { // which buffer the body comes in is a matter of luck
		var posts atomic.Int64
		both := make(chan struct{})
		var asked atomic.Int64
		addr := serveConns(t, func(nc net.Conn) {
			for r := bufio.NewReader(nc); ; {
				request, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, request.Body)
				switch {
				case request.Method == "GET":
					if asked.Add(1) == 2 {
						close(both)
					}
					<-both
					_, _ = io.WriteString(nc, okAnswer)
				case posts.Add(1) == 1:
					_, _ = io.WriteString(nc, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
				default:
					return
				}
			}
		})
		s := newShop(t)
		s.service("apex", addr)
		s.route(mesh.RouteRule{
			Backends: []mesh.RouteBackend{to("apex", 1)},
			Retry:    &mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1, Backoff: time.Millisecond},
		})
		for _, c := range []*client{s.apex(), s.apex()} { // two connections wait for requests
			defer c.expect(okAnswer)
			c.send(get)
		}
		proxytest.Eventually(t, "two connections", func() bool { return s.proxy.upstream.Stats().IdleHTTP1 == 2 })
		c := s.apex()
		c.send(headOf(t, "POST", "Content-Length: 8\r\n", 5000))
		time.Sleep(20 * time.Millisecond) // the head is passed on
		c.send("HEAD / x")
		if resp, _ := c.response("POST"); resp.StatusCode < 500 {
			t.Errorf("got %s, want an error: no attempt was answered", resp.Status)
		}
		if n := posts.Load(); n != 2 {
			t.Fatalf("the server got the POST %d times, want 2: one retry", n)
		}
	}
}
