package l7proxy

import (
	"errors"
	"os"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// TestFloodIsLeftUnread: a client that was ended for a flood is told so at once, and what it
// sends on is not read for a while: it can neither make the proxy drop bytes at full speed
// nor come again on the next connection as if nothing had been.
func TestFloodIsLeftUnread(t *testing.T) {
	var n int
	var err error
	// On a busy machine the second may be over before the test writes.
	for range 5 {
		if n, err = writeAfterFlood(t); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
	t.Errorf("after the GOAWAY: wrote %d bytes, then %v; want the proxy not to read them", n, err)
}

// writeAfterFlood floods a connection until the proxy ends it, and writes much to it then.
func writeAfterFlood(t *testing.T) (int, error) {
	t.Helper()
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	c := dialFrames(t, e.addr)
	c.headers(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a")
	serveFrames(b.accept())
	away := make(chan xhttp2.ErrCode, 1)
	go func() {
		defer close(away)
		for {
			fr, err := c.fr.ReadFrame()
			if err != nil {
				return
			}
			if g, ok := fr.(*xhttp2.GoAwayFrame); ok {
				away <- g.ErrCode
				return
			}
		}
	}()
	for i := 0; i < 20_000 && c.fr.WriteData(1, false, nil) == nil; i++ {
	}
	if code, ok := <-away; !ok || code != xhttp2.ErrCodeEnhanceYourCalm {
		t.Fatalf("got GOAWAY %v, %t, want ENHANCE_YOUR_CALM", code, ok)
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	return c.nc.Write(make([]byte, 64<<20))
}
