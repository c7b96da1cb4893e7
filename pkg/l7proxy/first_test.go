package l7proxy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

func TestServerSpeaksFirst(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	for range 3 { // unknown at first, then known
		began := time.Now()
		c := dialTCP(t, to)
		srv := b.accept()
		srv.send("220 ready\r\n")
		c.expect("220 ready\r\n")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the banner took %s", took)
		}
		c.send("QUIT\r\n")
		srv.expect("QUIT\r\n")
		c.Close()
		srv.expectEnd(nil)
		srv.Close()
	}
	if got := e.proxy.hints.pause(mustAddr(b.addr)); got != 0 {
		t.Errorf("a pause of %s before a server that is known to speak first", got)
	}
	if ev := e.tap.Wait(t, tap.ConnClose, 2); ev.Reason != mesh.ReasonNone || ev.WriteBytes != 11 || ev.ReadBytes != 6 {
		t.Errorf("%+v", ev)
	}
}

// TestClientGoesWhileBothAreSilent: the connection that was made ahead is given
// up with the client, whatever way it goes.
func TestClientGoesWhileBothAreSilent(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	for _, linger := range []int{0, -1} {
		c := dialTCP(t, to)
		srv := b.accept()
		_ = c.SetLinger(linger) // 0: by a reset
		c.Close()
		_, err := srv.Read(make([]byte, 1))
		if err == nil {
			t.Error("the backend read something")
		}
		srv.Close()
	}
	proxytest.Eventually(t, "all connections closed", func() bool { return e.conns() == 0 && e.group.Open() == 0 })
}

// TestLateClientIsToldOfRefusal: a client that takes a moment to send its HTTP
// request gets the refusal as an answer.
func TestLateClientIsToldOfRefusal(t *testing.T) {
	e := newEnv(t)
	c := e.dial(nobody(t))
	time.Sleep(50 * time.Millisecond) // the connection has long been refused
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, _ := c.response("GET")
	if resp.StatusCode != 502 || resp.Header.Get("underlane-reason") != "connect-refused" {
		t.Errorf("got %d %v, want 502 with underlane-reason: connect-refused", resp.StatusCode, resp.Header)
	}
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonConnectRefused || ev.Status != 502 {
		t.Errorf("%+v", ev)
	}
}

func TestSilentClientIsResetOnRefusal(t *testing.T) {
	e := newEnv(t)
	c := e.dial(nobody(t))
	c.expectEnd(unix.ECONNRESET)
	if ev := e.tap.Wait(t, tap.ConnClose, 0); ev.Reason != mesh.ReasonConnectRefused || !ev.Reset {
		t.Errorf("%+v", ev)
	}
}

func TestServerResetsWithoutAWord(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	srv := b.accept()
	_ = srv.SetLinger(0)
	srv.Close()
	c.expectEnd(unix.ECONNRESET)
	if ev := e.tap.Wait(t, tap.ConnClose, 0); ev.Reason != mesh.ReasonUpstreamReset && ev.Reason != mesh.ReasonConnectFailed {
		t.Errorf("%+v", ev) // the latter when the reset beats the proxy's look at its new connection
	}
}

func TestServerEndsWithoutAWord(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	srv := b.accept()
	_ = srv.CloseWrite()
	c.expectEnd(nil)
	c.send("still here")
	srv.expect("still here")
	c.Close()
	srv.expectEnd(nil)
}

// TestSlowRequestLine: a request whose line is slow to come is answered all the
// same. Nobody looks into it then.
func TestSlowRequestLine(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	request := "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
	c.send(request[:5])
	srv := b.request()
	srv.expect(request[:5])
	c.send(request[5:])
	srv.expect(request[5:])
	srv.send("HTTP/1.1 204 No Content\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != 204 {
		t.Errorf("got %d, want 204", resp.StatusCode)
	}
	c.Close()
	srv.Close()
	if ev := e.tap.Wait(t, tap.ConnClose, 0); ev.Protocol != "tcp" || ev.Reason != mesh.ReasonNone {
		t.Errorf("%+v", ev)
	}
}

// TestOpaqueClient: what is no protocol that is known goes through as it is.
func TestOpaqueClient(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	text := "\x00\x01binary" + strings.Repeat("z", 100_000)
	c.send(text)
	srv := b.accept()
	srv.expect(text)
	srv.send("answer")
	c.expect("answer")
}

func TestHintsAreBounded(t *testing.T) {
	h := hints{firstSpeaker: make(map[addrPort]speaker)}
	for i := range 3 * hintsAtMost {
		h.learn(portOf(i), clientSpeaks)
	}
	if len(h.firstSpeaker) > hintsAtMost {
		t.Errorf("%d hints", len(h.firstSpeaker))
	}
	if errors.Is(ignoreEOF(errors.New("x")), nil) {
		t.Error("an error is lost")
	}
}

// TestHTTP2ServerSpeaksFirst: the settings that HTTP/2 servers send at once do
// not make an opaque connection of one whose client is slow.
func TestHTTP2ServerSpeaksFirst(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := dialTCP(t, e.to(b.addr))
	ahead := b.accept()
	settings := []byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100}
	ahead.send(string(settings))
	time.Sleep(50 * time.Millisecond)
	f := clientFrames(t, c.TCPConn)
	f.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "svc")
	srv := serveFrames(b.request())
	srv.next()
	srv.headers(1, true, ":status", "204")
	f.want("HEADERS 1 :status=204 END")
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Protocol != "http2" || ev.Status != 204 {
		t.Errorf("%+v", ev)
	}
	if got := e.proxy.hints.pause(mustAddr(b.addr)); got != pauseClient {
		t.Errorf("a pause of %v for the next client", got)
	}
}
