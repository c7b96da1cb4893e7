package http2

import (
	"testing"

	xhttp2 "golang.org/x/net/http2"
)

// extended is an extended CONNECT (RFC 8441 §4).
var extended = []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/chat", ":authority", "a"}

const extendedEvent = ":method=CONNECT :protocol=websocket :scheme=http :path=/chat :authority=a"

func TestExtendedConnectServer(t *testing.T) {
	settings := func(cfg Config) (connect bool) {
		w := rawWire(t, cfg)
		f, err := w.fr.ReadFrame()
		must(t, err)
		v, ok := f.(*xhttp2.SettingsFrame).Value(xhttp2.SettingEnableConnectProtocol)
		return ok && v == 1
	}
	if settings(Config{Role: Server}) || !settings(Config{Role: Server, ConnectProtocol: true}) {
		t.Error("SETTINGS_ENABLE_CONNECT_PROTOCOL is to be sent where it is configured, and only there")
	}

	w := newWire(t, Config{Role: Server, ConnectProtocol: true})
	w.headers(1, false, extended...)
	must(t, w.fr.WriteData(1, false, []byte("to")))
	w.feed("HEADERS 1 "+extendedEvent, `DATA 1 "to"`)
	must(t, w.c.WriteHeaders(1, fieldList(":status", "200"), false))
	_, err := w.c.WriteData(1, []byte("fro"), true)
	must(t, err)
	w.sent("HEADERS 1 :status=200", "DATA 1 len=3 END")
	must(t, w.fr.WriteData(1, true, []byte("still")))
	w.feed(`DATA 1 "still" END`)

	for name, fields := range map[string][]string{
		"no scheme":              {":method", "CONNECT", ":protocol", "websocket", ":path", "/", ":authority", "a"},
		"no path":                {":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a"},
		"another method":         {":method", "GET", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "a"},
		"no protocol's name":     {":method", "CONNECT", ":protocol", "web socket", ":scheme", "http", ":path", "/", ":authority", "a"},
		"a plain CONNECT's rest": {":method", "CONNECT", ":scheme", "http", ":path", "/", ":authority", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, Config{Role: Server, ConnectProtocol: true})
			w.headers(1, false, fields...)
			w.malformed()
		})
	}
	t.Run("not offered", func(t *testing.T) {
		w := newWire(t, Config{Role: Server})
		w.headers(1, false, extended...)
		w.malformed()
	})
}

func TestExtendedConnectClient(t *testing.T) {
	enable := func(v uint32) xhttp2.Setting {
		return xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: v}
	}
	if _, err := New(Config{Role: Client}).OpenStream(fieldList(extended...), false); err != ErrNoSettings {
		t.Errorf("before the settings: got %v, want %v", err, ErrNoSettings)
	}
	w := newWire(t, Config{Role: Client})
	if _, err := w.c.OpenStream(fieldList(extended...), false); err != ErrNoConnectProtocol {
		t.Errorf("not offered: got %v, want %v", err, ErrNoConnectProtocol)
	}
	_, err := w.c.OpenStream(fieldList(":method", "CONNECT", ":authority", "a:1"), false)
	must(t, err) // an ordinary CONNECT needs no setting

	w = newWire(t, Config{Role: Client}, enable(1))
	id, err := w.c.OpenStream(fieldList(extended...), false)
	must(t, err)
	w.sent("HEADERS 1 " + extendedEvent)
	// The content-length of a tunnel's response has no meaning.
	w.headers(id, false, ":status", "200", "content-length", "1")
	must(t, w.fr.WriteData(id, false, []byte("abc")))
	w.feed("HEADERS 1 :status=200 content-length=1", `DATA 1 "abc"`)

	must(t, w.fr.WriteSettings(enable(0))) // it cannot be revoked
	w.feed("PROTOCOL_ERROR")
}

// malformed feeds what was written, and expects one malformed request.
func (w *wire) malformed() {
	w.t.Helper()
	events, err := w.c.Feed(w.in.Bytes())
	if err != nil || len(events) != 1 || events[0].Kind != EventMalformed {
		w.t.Errorf("got %q, want one MALFORMED event", describe(events, err))
	}
}

// TestAuthority: the grammar is that of HTTP/1's Host.
func TestAuthority(t *testing.T) {
	for s, want := range map[string][2]bool{ // no port required, port required
		"":             {true, false},
		"a":            {true, false},
		"a.b-c_d:80":   {true, true},
		"10.0.0.1:1":   {true, true},
		"[::1]":        {true, false},
		"[fe80::1]:80": {true, true},
		"%2Ftmp%2Fs":   {true, false}, // gRPC over a Unix socket
		"a:":           {true, false},
		":80":          {},
		"a:80:80":      {},
		"a:8x":         {},
		"a:123456":     {},
		"[::1":         {},
		"[::1]80":      {},
		"[]:80":        {},
		"u@a":          {},
		"a/b":          {},
		"a b":          {},
		"a\\b":         {},
		"a\r\nb":       {},
		"é":            {},
	} {
		if got := [2]bool{validAuthority(s, false), validAuthority(s, true)}; got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}
