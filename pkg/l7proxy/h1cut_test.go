package l7proxy

import (
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestH1ResponseToTheEnd: a response that ends with its connection, while the upload of its
// request goes on, ends for the client as it does without the proxy: by a FIN, also if a
// reset follows it, or by a reset. The proxy's upload meets the reset before the response
// has been read, because the client reads late.
func TestH1ResponseToTheEnd(t *testing.T) {
	const upload, download = 1 << 20, 200 << 10
	for name, test := range map[string]struct {
		end  func(srv *client)
		want error
	}{
		"FIN":            {func(srv *client) { _ = srv.CloseWrite() }, nil},
		"FIN and reset":  {func(srv *client) { _ = srv.CloseWrite(); _ = srv.SetLinger(0); srv.Close() }, nil},
		"reset":          {func(srv *client) { _ = srv.SetLinger(0); srv.Close() }, unix.ECONNRESET},
		"unread, closed": {func(srv *client) { srv.Close() }, unix.ECONNRESET},
	} {
		for _, kind := range []string{"Content-Length: 9999999", "Transfer-Encoding: chunked"} {
			for _, bare := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/bare=%v", name, kind, bare), func(t *testing.T) {
					b := newBackend(t)
					var c *client
					if bare {
						c = dialTCP(t, b.addr)
					} else {
						c = newEnv(t).dial(b.addr)
					}
					_ = c.SetReadBuffer(16 << 10)
					head := "POST / HTTP/1.1\r\nHost: x\r\n" + kind + "\r\n\r\n"
					if kind == "Transfer-Encoding: chunked" {
						head += fmt.Sprintf("%x\r\n", 2*upload)
					}
					c.send(head)
					srv := b.request()
					_ = srv.SetReadBuffer(16 << 10)
					srv.expect(head)
					sent := make(chan error, 1)
					go func() {
						_, err := io.Copy(c.TCPConn, proxytest.NewPattern(upload))
						sent <- err
					}()
					answered := make(chan error, 1)
					go func() {
						_, err := io.WriteString(srv.TCPConn, "HTTP/1.0 200 OK\r\n\r\n")
						if err == nil {
							_, err = io.Copy(srv.TCPConn, proxytest.NewPattern(download))
						}
						answered <- err
					}()
					if bare {
						_ = c.SetReadBuffer(2 * download)
						_, _ = io.CopyN(io.Discard, srv.r, upload/2)
					}
					if err := <-answered; err != nil {
						t.Fatal(err)
					}
					if err := <-sent; err != nil {
						t.Fatal(err)
					}
					proxytest.Eventually(t, "the response has left the server", func() bool { return outgoing(t, srv) == 0 })
					proxytest.Eventually(t, "bytes of the upload wait at the server", func() bool { return incoming(t, srv) > 0 })
					test.end(srv)
					time.Sleep(50 * time.Millisecond) // the upload is to be over, but the test holds without that
					n, err := io.Copy(io.Discard, c.r)
					if !is(err, test.want) {
						t.Errorf("after %d bytes the client got %v, want %v", n, err, test.want)
					}
					if test.want == nil && n < download {
						t.Errorf("the client got %d bytes, want %d and a head", n, download)
					}
				})
			}
		}
	}
}

// TestH1UploadIsCut: the endpoint sees that the client's connection was reset inside its
// request's body, and not that it has ended, also if the response's bytes meet the reset
// first.
func TestH1UploadIsCut(t *testing.T) {
	for range 20 {
		e, b := newEnv(t), newBackend(t)
		c := e.dial(b.addr)
		_ = c.SetReadBuffer(16 << 10)
		head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"
		c.send(head)
		srv := b.request()
		srv.expect(head)
		srv.send("HTTP/1.0 200 OK\r\n\r\n")
		c.expect("HTTP/1.0 200 OK\r\n\r\n")
		wrote := make(chan error, 1)
		go func() {
			_, err := io.Copy(srv.TCPConn, proxytest.NewPattern(64<<20))
			wrote <- err
		}()
		if _, err := io.CopyN(io.Discard, c.r, 1<<20); err != nil {
			t.Fatal(err)
		}
		_ = c.SetLinger(0)
		c.Close()
		if err := <-wrote; !is(err, unix.ECONNRESET) {
			t.Fatalf("the endpoint's write got %v, want %v", err, unix.ECONNRESET)
		}
		if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonClientReset {
			t.Errorf("got %v, want %v: %+v", ev.Reason, mesh.ReasonClientReset, ev)
		}
	}
}

// outgoing is the number of bytes that the peer's kernel has not acknowledged.
func outgoing(t *testing.T, c *client) (n int) { return pending(t, c, unix.TIOCOUTQ) }

// incoming returns how many bytes have arrived at the client that it has not read.
func incoming(t *testing.T, c *client) (n int) { return pending(t, c, unix.TIOCINQ) }

func pending(t *testing.T, c *client, ioctl uint) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if rawErr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), ioctl) }); rawErr != nil || err != nil {
		t.Fatal(rawErr, err)
	}
	return n
}
