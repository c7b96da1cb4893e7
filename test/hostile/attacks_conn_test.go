package hostile

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// handshakes throws TLS handshakes with the attacker's certificate.
func (a *assault) handshakes() {
	dialer := net.Dialer{Timeout: 5 * time.Second, Control: passBy}
	a.each(func(int) {
		c, err := dialer.Dial("tcp", a.To)
		if err != nil {
			a.refused.Add(1)
			a.note(err)
			time.Sleep(10 * time.Millisecond)
			return
		}
		defer c.Close()
		a.opened.Add(1)
		a.sent.Add(1)
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		conn := tls.Client(c, a.tlsConfig())
		if err := conn.Handshake(); err != nil {
			a.refused.Add(1)
			a.note(err)
			return
		}
		// In TLS 1.3 the server sees the client's certificate last.
		_, _ = io.WriteString(conn, "GET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n")
		n, err := conn.Read(make([]byte, 1))
		if n > 0 {
			a.got.Add(1)
			return
		}
		a.refused.Add(1)
		a.note(err)
	})
}

// stalled begins TLS handshakes and says nothing more.
func (a *assault) stalled() {
	a.hold(func(c net.Conn) error {
		a.sent.Add(1)
		client, server := net.Pipe()
		conn := tls.Client(client, a.tlsConfig())
		go func() { _ = conn.Handshake(); client.Close() }()
		buf := make([]byte, 4096)
		n, err := server.Read(buf)
		server.Close()
		if err != nil {
			return err
		}
		_, err = c.Write(buf[:n])
		return err
	})
}

// atOnce opens all connections at once and says one byte on each, which an echo server
// has to send back. A connection that is answered is kept until all are.
func (a *assault) atOnce() {
	var wg sync.WaitGroup
	began := time.Now()
	dialer := net.Dialer{Timeout: time.Minute}
	if a.Cert != nil {
		dialer.Control = passBy
	}
	for range a.Conns {
		wg.Go(func() {
			err := func() error {
				c, err := dialer.Dial("tcp", a.To)
				if err != nil {
					return err
				}
				a.opened.Add(1)
				if a.Cert != nil {
					c = tls.Client(c, a.tlsConfig())
				}
				_ = c.SetDeadline(began.Add(time.Minute))
				_, err = c.Write([]byte{0})
				if err == nil {
					_, err = io.ReadFull(c, make([]byte, 1))
				}
				if err != nil {
					c.Close()
					return err
				}
				a.got.Add(1)
				raise(&a.last, int64(time.Since(began)))
				time.Sleep(time.Until(a.ends))
				return c.Close()
			}()
			if err != nil {
				a.lost.Add(1)
				a.note(err)
			}
		})
	}
	wg.Wait()
}

// idle opens connections and says nothing.
func (a *assault) idle() { a.hold(func(net.Conn) error { return nil }) }

// slowHeads begins the head of a request with 32 KiB, and goes on with a byte a second.
func (a *assault) slowHeads() {
	head := "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 32<<10)
	a.hold(func(c net.Conn) error {
		a.sent.Add(1)
		_, err := io.WriteString(c, head)
		go func() {
			for err == nil && !a.over() {
				time.Sleep(time.Second)
				_, err = c.Write([]byte("a"))
			}
		}()
		return err
	})
}

// slowReads asks for much and does not read it.
func (a *assault) slowReads() {
	a.hold(func(c net.Conn) error {
		if t, is := c.(*net.TCPConn); is {
			_ = t.SetReadBuffer(4096)
		}
		a.sent.Add(1)
		_, err := io.WriteString(c, "GET /bytes/50000000 HTTP/1.1\r\nHost: x\r\n\r\n")
		return err
	})
}

// unanswered asks for what does not come.
func (a *assault) unanswered() {
	a.hold(func(c net.Conn) error {
		a.sent.Add(1)
		_, err := io.WriteString(c, "GET /delay/1m HTTP/1.1\r\nHost: x\r\n\r\n")
		return err
	})
}

// greedy is an honest client in a hurry: each connection has a request under way.
func (a *assault) greedy() {
	a.each(func(int) {
		c, err := a.dial()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for !a.over() {
			if _, err = io.WriteString(c, "GET /bytes/1 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				break
			}
			a.sent.Add(1)
			var resp *http.Response
			if resp, err = http.ReadResponse(r, nil); err != nil {
				break
			}
			if _, err = io.Copy(io.Discard, resp.Body); err != nil {
				break
			}
			if resp.StatusCode != 200 {
				err = errors.New(resp.Status)
				break
			}
			a.got.Add(1)
		}
		if err != nil && !a.over() {
			a.lost.Add(1)
			a.note(err)
		}
	})
}

// chunks sends one body in chunks of a byte.
func (a *assault) chunks() {
	a.stream("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n")
}

// pipeline sends requests that are answered by 404, and waits for no answer.
func (a *assault) pipeline() { a.stream("", "GET /status/404 HTTP/1.1\r\nHost: x\r\n\r\n") }

// fields sends requests with as many fields as there may be.
func (a *assault) fields() {
	var b strings.Builder
	b.WriteString("GET /status/404 HTTP/1.1\r\nHost: x\r\n")
	for i := range 250 {
		fmt.Fprintf(&b, "a%d: b\r\n", i)
	}
	a.stream("", b.String()+"\r\n")
}

// stream writes head and then unit again and again, as fast as it is taken, and reads
// what comes.
func (a *assault) stream(head, unit string) {
	n := max(1, 32<<10/len(unit))
	many := []byte(strings.Repeat(unit, n))
	a.each(func(int) {
		c, err := a.dial()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			return
		}
		defer c.Close()
		go a.drain(c)
		_, err = io.WriteString(c, head)
		for err == nil && !a.over() {
			if _, err = c.Write(many); err == nil {
				a.sent.Add(int64(n))
				a.sentBytes.Add(int64(len(many)))
			}
		}
		a.cut(err)
	})
}

// drain reads and drops what comes.
func (a *assault) drain(c io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		a.gotBytes.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// cut counts a flood's connection that the mesh has ended. The next one comes a moment
// later.
func (a *assault) cut(err error) {
	if err != nil && !a.over() {
		a.refused.Add(1)
		a.note(err)
		time.Sleep(10 * time.Millisecond)
	}
}

// scrape reads /metrics at full speed.
func (a *assault) scrape() {
	a.each(func(int) {
		resp, err := http.Get("http://" + a.To + "/metrics")
		if err != nil {
			a.refused.Add(1)
			a.note(err)
			time.Sleep(10 * time.Millisecond)
			return
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		a.note(err)
		a.sent.Add(1)
		a.got.Add(1)
		a.gotBytes.Add(n)
	})
}
