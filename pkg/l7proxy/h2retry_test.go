package l7proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// refusingBackend echoes request bodies; on each connection it treats the
// first stream, once its request is complete, as refuse says, which may answer
// it or not.
func refusingBackend(t testing.TB, refuse func(nc net.Conn, c *http2.Conn, id uint32)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for first := true; ; first = false {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			how := refuse
			if !first {
				how = nil
			}
			conns.Go(func() { echoConn(nc, how) })
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String()
}

func echoConn(nc net.Conn, refuse func(nc net.Conn, c *http2.Conn, id uint32)) {
	defer nc.Close()
	c := http2.New(http2.Config{Role: http2.Server})
	bodies := map[uint32][]byte{}
	buf := make([]byte, 16<<10)
	var out []byte
	for {
		out = c.TakeOutput(out)
		if _, err := nc.Write(out); err != nil {
			return
		}
		n, err := nc.Read(buf)
		if err != nil {
			return
		}
		events, _ := c.Feed(buf[:n])
		for i := range events {
			ev := &events[i]
			bodies[ev.Stream] = append(bodies[ev.Stream], ev.Payload...)
			c.Consume(ev.Stream, len(ev.Payload))
			switch {
			case !ev.EndStream:
			case refuse != nil:
				refuse(nc, c, ev.Stream)
			default:
				_ = c.WriteHeaders(ev.Stream, []http2.Field{{Name: ":status", Value: "200"}}, false)
				_, _ = c.WriteData(ev.Stream, bodies[ev.Stream], true)
				delete(bodies, ev.Stream)
			}
		}
	}
}

func TestH2RetriesRefused(t *testing.T) {
	for name, refuse := range map[string]func(nc net.Conn, c *http2.Conn, id uint32){
		"REFUSED_STREAM": func(_ net.Conn, c *http2.Conn, id uint32) { c.WriteReset(id, http2.RefusedStream) },
		// Last stream 0, as if the request had not been seen.
		"GOAWAY": func(nc net.Conn, c *http2.Conn, _ uint32) {
			_, _ = nc.Write(append(c.TakeOutput(nil), 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newH2Env(t, refusingBackend(t, refuse))
			body := strings.Repeat("once more ", 3000)
			resp, err := e.client().Post(e.url("/"), "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(got) != body {
				t.Errorf("%d, %d bytes", resp.StatusCode, len(got))
			}
			if ev := e.tap.end(t, 0); ev.Reason != mesh.ReasonNone || ev.ReadBytes != uint64(len(body)) {
				t.Errorf("tap: %v %d", ev.Reason, ev.ReadBytes)
			}
			if e.target.dials != 2 {
				t.Errorf("%d dials, want 2", e.target.dials)
			}
		})
	}
	t.Run("another reset is passed on", func(t *testing.T) {
		e := newH2Env(t, refusingBackend(t, func(_ net.Conn, c *http2.Conn, id uint32) { c.WriteReset(id, http2.InternalError) }))
		if resp, err := e.client().Get(e.url("/")); err == nil {
			resp.Body.Close()
			t.Errorf("answered %d", resp.StatusCode)
		}
		if ev := e.tap.end(t, 0); !ev.Reset || ev.ResetCode != uint32(http2.InternalError) || ev.Reason != mesh.ReasonUpstreamReset {
			t.Errorf("tap: %+v", ev)
		}
	})
}

// TestH2Drain: a draining proxy says GOAWAY, finishes what is in progress, and
// then closes.
func TestH2Drain(t *testing.T) {
	release := make(chan struct{})
	backend, _ := serveH2C(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "begin ")
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, "end")
	})
	e := newH2Env(t, backend)
	c := e.client()
	resp, err := c.Get(e.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	e.proxy.Drain()
	time.Sleep(50 * time.Millisecond)
	close(release)
	if body, err := io.ReadAll(resp.Body); string(body) != "begin end" || err != nil {
		t.Errorf("got %q %v, want \"begin end\"", body, err)
	}
	within(t, 30*time.Second, func() {
		for { // the session ends by itself
			if e.proxy.h2.Stats().Sessions == 0 {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

func TestH2IdleUpstreamCloses(t *testing.T) {
	backend, _ := serveH2C(t, func(http.ResponseWriter, *http.Request) {})
	e := newH2EnvWith(t, Limits{IdleTimeout: 100 * time.Millisecond}, backend)
	resp, err := e.client().Get(e.url("/"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	within(t, 30*time.Second, func() {
		for {
			if e.proxy.upstream.Stats().HTTP2 == 0 {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}
