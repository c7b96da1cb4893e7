package l7proxy

import (
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/underlane/underlane/pkg/mesh"
)

var websocket = []string{
	":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/chat", ":authority", "a",
	"sec-websocket-version", "13",
}

const websocketHead = ":method=CONNECT :protocol=websocket :scheme=http :path=/chat :authority=a sec-websocket-version=13"

var offersConnect = xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: 1}

// TestH2ExtendedConnect: a tunnel of bytes both ways, each of which ends by
// itself (RFC 8441).
func TestH2ExtendedConnect(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	c := dialFrames(t, e.addr)
	fr, err := c.fr.ReadFrame()
	c.must(err)
	if v, _ := fr.(*xhttp2.SettingsFrame).Value(xhttp2.SettingEnableConnectProtocol); v != 1 {
		t.Error("extended CONNECT is not offered to the client")
	}
	c.headers(1, false, websocket...)
	c.data(1, false, "early")
	// The request waits for the settings of the endpoint.
	s := serveFrames(b.accept(), offersConnect)
	s.want("HEADERS 1 "+websocketHead, `DATA 1 "early"`)
	s.headers(1, false, ":status", "200", "sec-websocket-protocol", "x")
	c.want("HEADERS 1 :status=200 sec-websocket-protocol=x")
	for range 3 {
		s.data(1, false, "down")
		c.want(`DATA 1 "down"`)
		c.data(1, false, "up")
		s.want(`DATA 1 "up"`)
	}
	c.data(1, true, "")
	s.want(`DATA 1 "" END`)
	s.data(1, true, "last")
	c.want(`DATA 1 "last" END`)
	if end := e.tap.end(t, 0); end.Status != 200 || end.Method != "CONNECT" || end.Path != "/chat" || end.Reset || end.ReadBytes != 5+3*2 {
		t.Errorf("%+v", end)
	}
	// The settings are known by now.
	c.headers(3, false, websocket...)
	s.want("HEADERS 3 " + websocketHead)
	c.must(c.fr.WriteRSTStream(3, xhttp2.ErrCodeCancel))
	s.want("RST_STREAM 3 CANCEL")
}

// TestH2ExtendedConnectRefused: an endpoint that does not offer it must not get
// it, and the connection is as good as before for other requests.
func TestH2ExtendedConnectRefused(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	c := dialFrames(t, e.addr)
	c.headers(1, false, websocket...)
	s := serveFrames(b.accept())
	if got := c.next(); !strings.HasPrefix(got, "HEADERS 1 :status=501 underlane-reason=not-supported ") {
		t.Errorf("got %q, want 501 with underlane-reason: not-supported", got)
	}
	c.next() // the sentence
	c.want("RST_STREAM 1 NO_ERROR")
	if end := e.tap.end(t, 0); end.Reason != mesh.ReasonNotSupported || end.Status != 501 {
		t.Errorf("%+v", end)
	}
	c.headers(3, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")
	s.want("HEADERS 1 :method=GET :scheme=http :path=/ :authority=a END")
}

// TestH2ExtendedConnectCut: the connection ends before it told its settings.
func TestH2ExtendedConnectCut(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	c := dialFrames(t, e.addr)
	c.headers(1, false, websocket...)
	s := b.accept()
	s.expect(xhttp2.ClientPreface)
	_ = s.SetLinger(0)
	s.Close()
	if got := c.next(); !strings.HasPrefix(got, "HEADERS 1 :status=502 underlane-reason=upstream-reset ") {
		t.Errorf("got %q, want 502 with underlane-reason: upstream-reset", got)
	}
	if end := e.tap.end(t, 0); end.Reason != mesh.ReasonUpstreamReset {
		t.Errorf("%+v", end)
	}
}
