package h2conn_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// noOwner has no streams.
type noOwner struct{}

func (noOwner) Event(*http2.Event, *h2conn.Batch) {}

// ending is a connection, and its peer, which the test plays.
type ending struct {
	*testing.T
	c     *h2conn.Conn
	peer  conn.Conn
	fr    *xhttp2.Framer
	ended chan error // what Run returned, after End
}

// endings runs a test on each kind of connection: of a client and of an endpoint, with
// mTLS and without. The receive buffer of the peer is small, so that what it does not
// read stays with the sender, which drops it when it resets the connection.
func endings(t *testing.T, test func(*ending)) {
	for _, role := range []http2.Role{http2.Server, http2.Client} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("of a %s, mTLS %v", [...]string{"client", "server"}[role], secure), func(t *testing.T) {
				t.Parallel()
				var nc, peer conn.Conn
				if secure {
					client, server, _ := proxytest.TLSPair(t)
					nc, peer = server, client
				} else {
					a, b := proxytest.Pair(t)
					nc, peer = conn.Plain{Conn: a}, conn.Plain{Conn: b}
				}
				raw, err := peer.Raw().SyscallConn()
				if err != nil {
					t.Fatal(err)
				}
				_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
				if err != nil {
					t.Fatal(err)
				}
				e := &ending{
					T: t, c: h2conn.New(nc, http2.Config{Role: role}, nil), peer: peer,
					fr: xhttp2.NewFramer(peer, peer), ended: make(chan error, 1),
				}
				go func() {
					err := e.c.Run(noOwner{}, nil)
					e.c.End()
					e.ended <- err
				}()
				if role == http2.Server {
					e.write([]byte(xhttp2.ClientPreface))
				} else {
					e.must(io.ReadFull(peer, make([]byte, len(xhttp2.ClientPreface))))
				}
				e.check(e.fr.WriteSettings())
				test(e)
			})
		}
	}
}

func (e *ending) check(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *ending) must(_ int, err error) { e.Helper(); e.check(err) }

func (e *ending) write(p []byte) { e.Helper(); e.must(e.peer.Write(p)) }

// over waits for the end, and returns what Run did.
func (e *ending) over(within time.Duration) error {
	e.Helper()
	select {
	case err := <-e.ended:
		return err
	case <-time.After(within):
		e.Fatalf("the connection is not over after %v", within)
		return nil
	}
}

// pings are frames that want an answer each.
func pings(n int) []byte {
	var b bytes.Buffer
	fr := xhttp2.NewFramer(&b, nil)
	for range n {
		_ = fr.WritePing(false, [8]byte{'a'})
	}
	return b.Bytes()
}

// tooLong begins a frame over the limit.
var tooLong = []byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1}

// TestEndAfterError: a peer that breaks the protocol and sends on gets all that was said
// to it, and why the connection ends.
func TestEndAfterError(t *testing.T) {
	const asked, more = 4000, 256 << 10
	endings(t, func(e *ending) {
		e.write(append(append(pings(asked), tooLong...), make([]byte, more)...))
		answers := 0
		var last xhttp2.Frame
		for {
			f, err := e.fr.ReadFrame()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					e.Errorf("got %v after %d answers, want %v", err, answers, io.EOF)
				}
				break
			}
			if p, ok := f.(*xhttp2.PingFrame); ok && p.IsAck() {
				answers++
			}
			last = f
		}
		goaway, ok := last.(*xhttp2.GoAwayFrame)
		if !ok || goaway.ErrCode != xhttp2.ErrCodeFrameSize || answers != asked {
			e.Errorf("got %d answers and then %v, want %d and GOAWAY with %v", answers, last, asked, xhttp2.ErrCodeFrameSize)
		}
		e.peer.Close()
		if err := e.over(10 * time.Second); !errors.As(err, new(*http2.ConnError)) {
			e.Errorf("Run ends with %v, want a connection error", err)
		}
	})
}

// TestEndAfterDrain: what a peer sends when it has got the end of a drained connection
// is dropped, and the connection is over when the peer ends it.
func TestEndAfterDrain(t *testing.T) {
	endings(t, func(e *ending) {
		e.c.Drain()
		for {
			f, err := e.fr.ReadFrame()
			if errors.Is(err, io.EOF) {
				break
			}
			e.check(err)
			if p, ok := f.(*xhttp2.PingFrame); ok && !p.IsAck() {
				e.check(e.fr.WritePing(true, p.Data))
			}
		}
		for range 100 {
			e.write(pings(100))
		}
		e.check(e.peer.CloseWrite())
		if err := e.over(10 * time.Second); !errors.Is(err, io.EOF) {
			e.Errorf("Run ends with %v, want %v", err, io.EOF)
		}
	})
}

// TestEndIsBounded: a peer that does not end its side holds a connection for a limited
// time, and for a limited number of bytes.
func TestEndIsBounded(t *testing.T) {
	const most = 32 << 20 // with the buffers of both sockets
	for name, sends := range map[string]bool{"silent": false, "sending": true} {
		for end, begin := range map[string]func(*ending){
			"error": func(e *ending) { e.write(tooLong) },
			"drain": func(e *ending) {
				e.c.Drain()
				e.check(e.fr.WritePing(true, [8]byte{'u', 'l', 'd', 'r', 'a', 'i', 'n', 0}))
			},
		} {
			t.Run(name+" after "+end, func(t *testing.T) {
				t.Parallel()
				endings(t, func(e *ending) {
					begin(e)
					sent := 0
					for sends {
						n, err := e.peer.Write(pings(1000))
						if sent += n; err != nil {
							break
						}
					}
					_ = e.over(10 * time.Second)
					if sent > most {
						e.Errorf("the peer could send %d bytes, want at most %d", sent, most)
					}
				})
			})
		}
	}
}
