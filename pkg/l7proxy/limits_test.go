package l7proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestPodConnections: a pod has so many connections at a time, whatever they
// carry; when one ends another may begin.
func TestPodConnections(t *testing.T) {
	const most = 3
	e, b := newEnv(t), newBackend(t)
	e.proxy.pods.MaxConns = most
	to := e.to(b.addr)
	var open []*client
	for range most {
		c := dialTCP(t, to)
		c.send(get)
		srv := b.request()
		srv.expect(get)
		srv.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		c.response("GET")
		open = append(open, c)
	}
	nc, err := net.Dial("tcp", to)
	if err == nil {
		_, err = nc.Read(make([]byte, 1))
		nc.Close()
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("one more connection: %v", err)
	}
	if ev := e.tap.Wait(t, tap.ConnClose, 0); ev.Reason != mesh.ReasonOverload || ev.Source.Workload != e.local {
		t.Errorf("%+v", ev)
	}
	if hits := e.proxy.LimitHits()["pod-connections-outbound"]; hits != 1 {
		t.Errorf("%d hits are counted", hits)
	}
	open[0].Close()
	proxytest.Eventually(t, "room for another", func() bool {
		conns, _ := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
		return conns < most
	})
	c := dialTCP(t, to)
	c.send(get)
	b.request().expect(get)
}

// TestPodBuffer: bytes that a pod does not take are counted, and over the limit
// its next request is refused until they have gone.
func TestPodBuffer(t *testing.T) {
	const size = 1 << 20
	backend, _ := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = io.Copy(w, io.LimitReader(proxytest.NewPattern(size), size))
		}
	})
	e := newEnv(t)
	e.proxy.pods.MaxBuffered = 300 << 10
	// The window of the connection is all there is until it is given more.
	c := dialFrames(t, e.to(backend), xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 0})
	ask := func(id uint32, path string) {
		c.headers(id, true, ":method", "GET", ":scheme", "http", ":path", path, ":authority", "a")
	}
	held := func() int64 {
		_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
		return held
	}
	ask(1, "/large")
	ask(3, "/large")
	proxytest.Eventually(t, "two windows' worth waits", func() bool { return held() == 2*256<<10 })
	c.next()
	c.next() // their heads
	ask(5, "/small")
	if got := c.next(); !strings.HasPrefix(got, "HEADERS 5 :status=503 underlane-reason=overload ") {
		t.Error(got)
	}
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonOverload {
		t.Errorf("%+v", ev)
	}
	if hits := e.proxy.LimitHits()["pod-buffer"]; hits != 1 {
		t.Errorf("%d hits are counted", hits)
	}
	c.must(c.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel))
	c.must(c.fr.WriteRSTStream(5, xhttp2.ErrCodeCancel)) // its sentence waits too
	proxytest.Eventually(t, "one window's worth waits", func() bool { return held() == 256<<10 })
	ask(7, "/small")
	if got := c.next(); !strings.HasPrefix(got, "HEADERS 7 :status=200 ") {
		t.Error(got)
	}
	c.must(c.fr.WriteRSTStream(3, xhttp2.ErrCodeCancel))
	proxytest.Eventually(t, "nothing waits", func() bool { return held() == 0 })
}

// TestPodStreams: a pod has so many streams of HTTP/2 open at a time, on all of its
// connections; when one ends another may begin.
func TestPodStreams(t *testing.T) {
	e := newEnv(t)
	to := e.to(hangingBackend(t))
	usage := e.proxy.pods.Enter(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
	defer usage.Leave()
	for range quota.MaxStreams - 2 {
		if !usage.BeginStream() {
			t.Fatal("a stream below the limit is refused")
		}
	}
	first, second := dialFrames(t, to), dialFrames(t, to)
	first.ask(1, "/")
	first.ping()
	second.ask(1, "/")
	second.ping()
	second.ask(3, "/ok")
	if got := second.next(); !strings.HasPrefix(got, "HEADERS 3 :status=503 underlane-reason=overload ") {
		t.Errorf("one stream more: got %s, want 503", got)
	}
	if hits := e.proxy.LimitHits()["pod-streams"]; hits != 1 {
		t.Errorf("got %d hits, want 1", hits)
	}
	first.must(first.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel))
	first.ping()
	second.must(second.fr.WriteRSTStream(3, xhttp2.ErrCodeCancel))
	second.ask(5, "/ok")
	for got := ""; !strings.HasPrefix(got, "HEADERS 5 "); {
		if got = second.next(); strings.HasPrefix(got, "HEADERS 5 ") && !strings.HasPrefix(got, "HEADERS 5 :status=200 ") {
			t.Errorf("with room again: got %s, want 200", got)
		}
	}
}

// TestH2Floods: a client that floods is sent away with the right code, is told of
// and counted; other clients do not notice.
func TestH2Floods(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	get := func(c *frames, id uint32, end bool) error {
		return c.fr.WriteHeaders(xhttp2.HeadersFrameParam{
			StreamID: id, EndStream: end, EndHeaders: true,
			BlockFragment: c.encode(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"),
		})
	}
	other := dialFrames(t, e.addr)
	other.must(get(other, 1, true))
	s := serveFrames(b.accept())
	s.want("HEADERS 1 :method=GET :scheme=http :path=/ :authority=a END")
	floods := map[string]func(c *frames, i uint32) error{
		"malformed requests": func(c *frames, i uint32) error {
			return c.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: []byte{0x82}, EndStream: true, EndHeaders: true})
		},
		"window updates of 0": func(c *frames, i uint32) error {
			if i%2 == 0 {
				return get(c, i+1, false)
			}
			return c.fr.WriteWindowUpdate(i, 0)
		},
		"CONTINUATION": func(c *frames, i uint32) error {
			if i == 0 {
				return c.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1})
			}
			return c.fr.WriteContinuation(1, false, nil)
		},
		"empty DATA": func(c *frames, i uint32) error {
			if i == 0 {
				return get(c, 1, false)
			}
			return c.fr.WriteData(1, false, nil)
		},
	}
	hits := uint64(0)
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			hits++
			c := dialFrames(t, e.addr)
			last := make(chan string, 1)
			go func() {
				defer close(last)
				for {
					fr, err := c.fr.ReadFrame() // and answer nothing: the test's goroutine writes
					if err != nil {
						return
					}
					if g, ok := fr.(*xhttp2.GoAwayFrame); ok {
						last <- g.ErrCode.String()
					}
				}
			}()
			for i := range uint32(20_000) {
				if flood(c, i) != nil {
					break // it has been sent away
				}
			}
			if got := <-last; got != "ENHANCE_YOUR_CALM" {
				t.Errorf("the last word is %q", got)
			}
			proxytest.Eventually(t, "counted", func() bool { return e.proxy.LimitHits()["http2-flood"] == hits })
		})
	}
	s.headers(1, true, ":status", "204")
	other.want("HEADERS 1 :status=204 END")
}
