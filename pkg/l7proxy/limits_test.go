package l7proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
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
	if err := readReset(to); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("one more connection: got %v, want a reset", err)
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

// TestSilentMakesRoom: a client that has as many connections as it may gets another one for
// its oldest on which nothing was said. One on which the server has spoken stays.
func TestSilentMakesRoom(t *testing.T) {
	banner := serveConns(t, func(nc net.Conn) {
		_, _ = io.WriteString(nc, "hello")
		_, _ = io.Copy(io.Discard, nc)
	})
	server := idleServer(t)
	e := newEnvWith(t, Limits{PodConnections: 3})
	to := e.to(server)
	greeted := e.dial(banner)
	greeted.expect("hello")
	silent := func(number int) *client {
		c := dialTCP(t, to)
		proxytest.Eventually(t, "the connection is counted", func() bool {
			conns, _ := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
			return conns == number
		})
		return c
	}
	first, second := silent(2), silent(3)
	proxytest.Eventually(t, "a newcomer is served", func() bool {
		nc, err := net.Dial("tcp", to)
		if err != nil {
			return false
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(nc, benchRequest); err != nil {
			return false
		}
		_, err = io.ReadFull(nc, make([]byte, len(benchResponse)))
		return err == nil
	})
	first.expectEnd(unix.ECONNRESET)
	if hits := e.proxy.LimitHits()["source-silent"]; hits != 1 {
		t.Errorf("%d connections are counted as closed, want 1", hits)
	}
	second.send(benchRequest)
	second.expect(benchResponse)
	greeted.send("x")
	if greeted.Close() != nil || e.proxy.LimitHits()["source-silent"] != 1 {
		t.Error("a connection on which the server has spoken was closed")
	}
}

// readReset makes a connection and reads from it. It returns the error of either.
func readReset(addr string) error {
	nc, err := net.Dial("tcp", addr)
	if err == nil {
		_, err = nc.Read(make([]byte, 1))
		nc.Close()
	}
	return err
}

// TestPodDescriptors: a pod is counted with the connections that are open, of its clients
// and to endpoints, and not with what they might open. Over its share the request fails that
// needs another one.
func TestPodDescriptors(t *testing.T) {
	const clients = 5
	server := idleServer(t)
	e := newEnv(t)
	to := e.to(server)
	counted := func() (n int) {
		for used := range e.proxy.pods.All() {
			n += used.Descriptors
		}
		return n
	}
	var open []*client
	for range clients { // one after the other: they share a connection to the server
		c := dialTCP(t, to)
		c.send(benchRequest)
		c.expect(benchResponse)
		open = append(open, c)
	}
	proxytest.Eventually(t, "the connections are counted", func() bool { return counted() == clients+e.conns() })
	if got := e.conns(); got >= clients {
		t.Errorf("%d connections to the server, want fewer than clients", got)
	}
	for _, c := range open {
		c.Close()
	}
	proxytest.Eventually(t, "the connection that waits for other requests is counted", func() bool { return counted() == e.conns() })
	e.proxy.upstream.CloseIdle(0)
	proxytest.Eventually(t, "nothing is counted", func() bool { return counted() == 0 && e.conns() == 0 })

	few := newEnvWith(t, Limits{Descriptors: 3})
	to = few.to(server)
	c := dialTCP(t, to)
	c.send(benchRequest)
	c.expect(benchResponse)
	if err := readReset(to); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a connection over the share of descriptors: got %v, want a reset", err)
	}
	few.proxy.upstream.CloseIdle(0) // the next request needs a connection, and there is room for it
	c.send(benchRequest)
	c.expect(benchResponse)
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
	e.proxy.pods.MaxBuffered = http2.FirstStreamWindow * 3 / 2
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
	proxytest.Eventually(t, "two windows' worth waits", func() bool { return held() == 2*http2.FirstStreamWindow })
	c.next()
	c.next() // their heads
	ask(5, "/small")
	if got := c.next(); !strings.HasPrefix(got, "HEADERS 5 :status=503 underlane-reason=overload ") {
		t.Errorf("got %q, want 503 with underlane-reason: overload", got)
	}
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonOverload {
		t.Errorf("%+v", ev)
	}
	if hits := e.proxy.LimitHits()["pod-buffer"]; hits != 1 {
		t.Errorf("%d hits are counted", hits)
	}
	c.must(c.fr.WriteRSTStream(1, xhttp2.ErrCodeCancel))
	c.must(c.fr.WriteRSTStream(5, xhttp2.ErrCodeCancel)) // its sentence waits too
	proxytest.Eventually(t, "one window's worth waits", func() bool { return held() == http2.FirstStreamWindow })
	ask(7, "/small")
	if got := c.next(); !strings.HasPrefix(got, "HEADERS 7 :status=200 ") {
		t.Errorf("got %q, want 200 on stream 7", got)
	}
	c.must(c.fr.WriteRSTStream(3, xhttp2.ErrCodeCancel))
	proxytest.Eventually(t, "nothing waits", func() bool { return held() == 0 })
}

// TestPodStreams: a pod has so many streams of HTTP/2 open at a time, on all of its
// connections; when one ends another may begin.
func TestPodStreams(t *testing.T) {
	e := newEnv(t)
	to := e.to(hangingBackend(t))
	usage, err := e.proxy.pods.Enter(quota.Key{UID: e.local.UID, Direction: mesh.Outbound}, quota.PodSource(e.local.UID), 1)
	if err != nil {
		t.Fatal(err)
	}
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

// uploads opens streams to an endpoint, sends so many bytes on each of them afterwards, and
// returns how many of them the proxy has answered when it has read all but for the last
// ones.
func uploads(t *testing.T, c *frames, streams, each int) (refused int) {
	t.Helper()
	for i := range streams {
		c.headers(uint32(2*i+1), false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a")
	}
	c.ping()
	sent := make(chan error, 1)
	go func() {
		for i := range streams {
			for left := each; left > 0; left -= 15 << 10 {
				if err := c.fr.WriteData(uint32(2*i+1), false, make([]byte, 15<<10)); err != nil {
					sent <- err
					return
				}
			}
		}
		sent <- c.fr.WritePing(false, [8]byte{})
	}()
	for got := false; !got; {
		fr, err := c.fr.ReadFrame()
		c.must(err)
		switch fr := fr.(type) {
		case *xhttp2.MetaHeadersFrame:
			refused++
		case *xhttp2.PingFrame:
			got = fr.IsAck()
		}
	}
	c.must(<-sent)
	return refused
}

// TestPodBufferOfOpenStreams: a pod that opens its streams before any byte waits cannot
// have many more bytes wait than it may. What waits is dropped with the streams that end.
func TestPodBufferOfOpenStreams(t *testing.T) {
	const streams, each, most = 256, 60 << 10, 2 << 20
	backend := sink(t) // whose window of a connection is 64 KiB
	e := newEnv(t)
	e.proxy.pods.MaxBuffered = 1 << 20
	c := dialFrames(t, e.to(backend))
	refused := uploads(t, c, streams, each)
	_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
	if held > most || refused == 0 {
		t.Errorf("%d bytes wait and %d streams were refused, want at most %d bytes and some streams", held, refused, most)
	}
	if hits := e.proxy.LimitHits()["pod-buffer-ended"]; hits < uint64(refused) {
		t.Errorf("%d hits are counted, want at least %d", hits, refused)
	}
	for i := range streams {
		c.must(c.fr.WriteRSTStream(uint32(2*i+1), xhttp2.ErrCodeCancel))
	}
	proxytest.Eventually(t, "nothing waits", func() bool {
		_, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
		return held == 0
	})
}

// TestPodBufferCountsReplays: the bodies that are kept for another attempt count, and no
// more are kept than may wait.
func TestPodBufferCountsReplays(t *testing.T) {
	var got []int64
	for range 5 { // a sink that reads slowly has its connection cut, and nothing is held
		held := heldReplays(t)
		if aboutLimit(held) {
			return
		}
		got = append(got, held)
	}
	t.Errorf("got %d bytes held in five tries, want about %d", got, podBufferLimit)
}

const podBufferLimit, replayed = 1 << 20, 60 << 10

func aboutLimit(held int64) bool {
	return held >= podBufferLimit/2 && held <= podBufferLimit+2*replayed
}

// heldReplays returns how many bytes a pod with the limit podBufferLimit holds while uploads of
// replayed bytes each are under way.
func heldReplays(t *testing.T) (held int64) {
	backend := readingSink(t)
	e := newEnv(t)
	e.proxy.pods.MaxBuffered = podBufferLimit
	c := dialFrames(t, e.to(backend))
	uploads(t, c, 64, replayed)
	for range 100 {
		_, held = e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Outbound})
		if aboutLimit(held) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return held
}

// readingSink is a sink with windows for all that comes.
func readingSink(t testing.TB) (addr string) {
	return serveConns(t, func(nc net.Conn) {
		fr := xhttp2.NewFramer(nc, nil)
		if fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20}) == nil && fr.WriteWindowUpdate(0, 1<<30) == nil {
			_, _ = io.Copy(io.Discard, nc)
		}
	})
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
