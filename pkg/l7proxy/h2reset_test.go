package l7proxy

import (
	"net/http"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	xhttp2 "golang.org/x/net/http2"
)

// TestH2Deadlines: calls that run into a deadline, however many, cost a client nothing
// but these calls.
func TestH2Deadlines(t *testing.T) {
	backend, _ := serveH2C(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	e := newH2Env(t, backend)
	c := dialFrames(t, e.addr)
	const rounds, calls = 5, 200
	id := uint32(1)
	for range rounds {
		first := id
		for range calls {
			c.headers(id, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")
			id += 2
		}
		c.ping()
		time.Sleep(http2.DefaultResetYoung) // the deadline
		for old := first; old < id; old += 2 {
			c.must(c.fr.WriteRSTStream(old, xhttp2.ErrCodeCancel))
		}
		c.ping()
	}
}

// ping fails unless the peer answers, and nothing else comes before.
func (f *frames) ping() {
	f.t.Helper()
	f.must(f.fr.WritePing(false, [8]byte{}))
	for {
		fr, err := f.fr.ReadFrame()
		f.must(err)
		switch fr := fr.(type) {
		case *xhttp2.PingFrame:
			return
		case *xhttp2.SettingsFrame, *xhttp2.WindowUpdateFrame:
		default:
			f.t.Fatalf("got %v, want a PING", fr)
		}
	}
}
