package h2conn_test

import (
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// budget counts bytes, and refuses those over a limit.
type budget struct{ held, limit atomic.Int64 }

func (b *budget) Wait(n int) bool { return b.held.Add(int64(n)) <= b.limit.Load() }
func (b *budget) Waited(n int)    { b.held.Add(int64(-n)) }

// floods writes as much to each stream as there is room for.
type floods struct {
	c     *h2conn.Conn
	bytes []byte
}

func (f *floods) Event(ev *http2.Event, b *h2conn.Batch) {
	if ev.Kind == http2.EventHeaders {
		_ = f.c.Headers(ev.Stream, []http2.Field{{Name: ":status", Value: "200"}}, false, b)
	}
	f.c.Lock()
	_, _ = f.c.Engine.WriteData(1, f.bytes, false)
	f.c.Unlock()
	b.Add(f.c)
}

// TestOutputIsCounted: output that the peer does not take is counted, and counted no more
// when the peer has read it; over the limit the connection ends.
func TestOutputIsCounted(t *testing.T) {
	for _, secure := range []bool{false, true} {
		for _, over := range []bool{false, true} {
			t.Run(fmt.Sprintf("mTLS %v, over the limit %v", secure, over), func(t *testing.T) {
				var nc, peer conn.Conn
				if secure {
					client, server, _ := proxytest.TLSPair(t)
					nc, peer = server, client
				} else {
					a, b := proxytest.Pair(t)
					nc, peer = conn.Plain{Conn: a}, conn.Plain{Conn: b}
				}
				for _, c := range []conn.Conn{nc, peer} {
					raw, err := c.Raw().SyscallConn()
					if err != nil {
						t.Fatal(err)
					}
					_ = raw.Control(func(fd uintptr) {
						_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
						_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
					})
				}
				var b budget
				if !over {
					b.limit.Store(1 << 30)
				}
				c := h2conn.New(nc, http2.Config{Role: http2.Server}, nil)
				c.Budget = &b
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_ = c.Run(&floods{c, make([]byte, 200<<10)}, nil)
					c.End()
				}()
				fr := xhttp2.NewFramer(peer, peer)
				if _, err := io.WriteString(peer, xhttp2.ClientPreface); err != nil {
					t.Fatal(err)
				}
				for _, err := range []error{
					fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20}),
					fr.WriteWindowUpdate(0, 1<<20),
					fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: []byte{0x82, 0x87, 0x84, 0x41, 1, 'a'}}),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
				// What the kernel has promised to take before its buffers were made small may
				// be all of the output that one event makes.
				stream := uint32(1)
				more := func() {
					if stream < 100 {
						stream += 2
						_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, EndHeaders: true, BlockFragment: []byte{0x82, 0x87, 0x84, 0x41, 1, 'a'}})
					}
				}
				if over {
					proxytest.Eventually(t, "the connection ends over the limit", func() bool {
						more()
						select {
						case <-ended:
							return true
						case <-time.After(10 * time.Millisecond):
							return false
						}
					})
				} else {
					proxytest.Eventually(t, "output is counted", func() bool {
						if b.held.Load() == 0 {
							more()
						}
						return b.held.Load() > 0
					})
					if held, most := b.held.Load(), int64(http2.DefaultOutputLimit+64<<10); held > most {
						t.Errorf("%d bytes are counted, want at most %d", held, most)
					}
					go func() { _, _ = io.Copy(io.Discard, peer) }()
					proxytest.Eventually(t, "nothing is counted", func() bool { return b.held.Load() == 0 })
					nc.Close()
					<-ended
				}
				if held := b.held.Load(); held != 0 {
					t.Errorf("at the end %d bytes are counted, want none", held)
				}
			})
		}
	}
}
