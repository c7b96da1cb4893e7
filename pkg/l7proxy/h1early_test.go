package l7proxy

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
)

// pastLinger is longer than the time for which the proxy reads from a client that
// has had its last response.
const pastLinger = 1300 * time.Millisecond

// TestH1EarlyAnswer: the server answers before it has read the body, and goes
// on reading, or closes, or does nothing more for a while.
func TestH1EarlyAnswer(t *testing.T) {
	const size = 32 << 20 // more than all sockets on the way hold
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
	for _, then := range []string{"reads on", "stalls", "closes"} {
		t.Run(then, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			c.send(head)
			srv := b.request()
			srv.expect(head)
			sent := make(chan error, 1)
			go func() {
				_, err := io.Copy(c.TCPConn, proxytest.NewPattern(size))
				sent <- err
			}()
			srv.send(okAnswer)
			c.expect(okAnswer)
			if then == "closes" {
				srv.Close()
				<-sent
				c.Close()
				proxytest.Eventually(t, "session over", func() bool { return e.group.Open() == 0 })
				return
			}
			if then == "stalls" {
				time.Sleep(2 * pastLinger)
			}
			got, n, err := proxytest.Sum(io.LimitReader(srv.r, size))
			if err != nil || n != size || got != proxytest.PatternSum(size) {
				t.Errorf("the server got %d bytes, %v", n, err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
			c.send(get) // and the connection serves on
			srv.expect(get)
			srv.send(okAnswer)
			c.expect(okAnswer)
			b.none()
		})
	}
}

// TestH1EarlyAnswerToSlowClient: a client whose connection goes on, as the early answer
// says, may take its time over the rest of its body.
func TestH1EarlyAnswerToSlowClient(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
	c.send(head)
	srv := b.request()
	srv.expect(head)
	srv.send(okAnswer)
	c.expect(okAnswer)
	time.Sleep(pastLinger)
	c.send("again" + get)
	srv.expect("again" + get)
	srv.send(okAnswer)
	c.expect(okAnswer)
}

// TestH1EarlyClose: an early answer that says close says so to the client, which sees the
// end at once; what it still sends reaches a server that reads on.
func TestH1EarlyClose(t *testing.T) {
	for name, test := range map[string]struct{ ask, answer, want string }{
		"server":      {"POST / HTTP/1.1\r\nHost: x\r\n", "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno"},
		"old server":  {"POST / HTTP/1.1\r\nHost: x\r\n", "HTTP/1.0 413 No\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.0 413 No\r\nContent-Length: 2\r\n\r\nno"},
		"old client":  {"POST / HTTP/1.0\r\nHost: x\r\n", okAnswer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
		"client":      {"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", okAnswer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"},
		"expectation": {"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n", "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			c.send(test.ask + "Content-Length: 10\r\n\r\n")
			srv := b.request()
			if _, err := srv.r.Peek(1); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			srv.send(test.answer)
			c.expect(test.want)
			c.expectEnd(nil)
			c.send("0123456789")
			request := make([]byte, 4096)
			n := 0
			for n < len("0123456789") || !bytes.HasSuffix(request[:n], []byte("\r\n\r\n0123456789")) {
				m, err := srv.r.Read(request[n:])
				if n += m; err != nil {
					if took := time.Since(began); took < pastLinger/2 {
						t.Errorf("got %q, then %v after %v; want all of the request", request[:n], err, took)
					}
					break
				}
			}
		})
	}
}

// TestH1EarlyRefusal: a server that refuses an upload early, and closes, costs the next
// request nothing: neither side's connection is used again where it may not be, and
// where the client was told that it may, it may.
func TestH1EarlyRefusal(t *testing.T) {
	const size = 200 << 10 // within the bounds of what is read away
	refusal := "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
	for name, closes := range map[string]bool{"the server closes": true, "the server reads on": false} {
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
			c.send(head)
			srv := b.request()
			srv.expect(head)
			srv.send(refusal)
			c.expect(refusal)
			if closes {
				_ = srv.SetLinger(0)
				srv.Close()
			}
			c.send(strings.Repeat("x", size))
			if !closes {
				srv.expect(strings.Repeat("x", size))
			}
			post := "POST /next HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\ny"
			c.send(post)
			next := srv
			if closes {
				next = b.request()
			}
			next.expect(post)
			next.send(okAnswer)
			c.expect(okAnswer)
		})
	}
}

// TestH1LastAnswerArrives: a client that sends much more than the proxy reads has the
// last response all the same, because a reset does not follow at once.
func TestH1LastAnswerArrives(t *testing.T) {
	const size = 8 << 20 // more than the sockets hold
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
	c.send(head)
	srv := b.request()
	srv.expect(head)
	_ = srv.SetLinger(0)
	srv.Close()
	if _, err := io.Copy(c.TCPConn, proxytest.NewPattern(size)); err != nil {
		t.Fatalf("send the body: %v", err)
	}
	if resp, _ := c.response("POST"); resp.StatusCode != 502 || !resp.Close {
		t.Errorf("got %d, closing %v; want 502, true", resp.StatusCode, resp.Close)
	}
}

// TestH1HaltedBody: a body whose last bytes did not go out whole, because an early failure
// was to be retried, never goes on behind the gap.
func TestH1HaltedBody(t *testing.T) {
	const size = 32 << 20 // more than all sockets on the way hold
	s, b := newShop(t), newBackend(t)
	s.service("apex", b.addr)
	s.route(mesh.RouteRule{
		Backends: []mesh.RouteBackend{to("apex", 1)},
		Retry:    &mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1, Backoff: time.Millisecond},
	})
	c := s.apex()
	head := fmt.Sprintf("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
	c.send(head)
	srv := b.request()
	srv.expect(head)
	var sent atomic.Int64
	go func() {
		body := proxytest.NewPattern(size)
		for {
			n, err := io.CopyN(c.TCPConn, body, 64<<10)
			if sent.Add(n); err != nil {
				return
			}
		}
	}()
	before := int64(-1)
	proxytest.Eventually(t, "the body stands still", func() bool {
		time.Sleep(50 * time.Millisecond)
		still := before == sent.Load()
		before = sent.Load()
		return still && before > 0
	})
	srv.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
	if resp, body := c.response("PUT"); resp.StatusCode != 503 || body != "busy" {
		t.Errorf("got %d %q, want 503 %q", resp.StatusCode, body, "busy")
	}
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	pattern := proxytest.NewPattern(size)
	for at := 0; ; {
		n, err := srv.r.Read(got)
		_, _ = io.ReadFull(pattern, want[:n])
		if !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("the body has a gap at byte %d or after it", at)
		}
		if at += n; err != nil || at == size {
			return
		}
	}
}
