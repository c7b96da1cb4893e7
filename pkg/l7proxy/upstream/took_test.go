package upstream

import (
	"crypto/tls"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
)

// TestTookWithin: a request counts of a dial what lies in its own wait.
func TestTookWithin(t *testing.T) {
	plain := Took{Began: 100, Connected: 200}
	secured := Took{Began: 100, Connected: 200, Shaking: 250, Shaken: 300}
	for name, c := range map[string]struct {
		took         Took
		since, until time.Duration
		connect, tls time.Duration
	}{
		"no dial":                   {Took{}, 10, 400, 0, 0},
		"plaintext":                 {plain, 10, 400, 100, 0},
		"mTLS":                      {secured, 10, 400, 100, 50},
		"came while it connected":   {secured, 150, 300, 50, 50},
		"came during the handshake": {secured, 260, 300, 0, 40},
		"came afterwards":           {secured, 350, 400, 0, 0},
		"gave up before":            {secured, 10, 150, 50, 0},
	} {
		t.Run(name, func(t *testing.T) {
			connect, tls := c.took.Within(c.since, c.until)
			if connect != c.connect || tls != c.tls {
				t.Errorf("got %d and %d, want %d and %d", connect, tls, c.connect, c.tls)
			}
		})
	}
}

// TestSlowHandshakeTook: the time of a slow handshake is that of TLS, also if it fails.
func TestSlowHandshakeTook(t *testing.T) {
	const wait = 200 * time.Millisecond
	for name, c := range map[string]struct {
		patience time.Duration
		peer     func(*shaker, *rawio.Conn)
	}{
		"slow": {time.Minute, func(s *shaker, c *rawio.Conn) {
			time.Sleep(wait)
			served := tls.Server(&conn.Transport{Conn: c}, s.server)
			_, _ = io.Copy(served, served)
		}},
		"silent": {wait, saysNothing},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShaker(t, handshakePause(c.patience), c.peer)
			c, _, err := s.Dial(t.Context(), &s.ep, netip.AddrPort{}, mtls.ALPNHTTP1)
			if (err == nil) != (name == "slow") {
				t.Fatalf("dial: %v", err)
			}
			if err == nil {
				c.Close()
			}
			took := s.ep.Took
			if got := took.Shaken - took.Shaking; got < wait*9/10 {
				t.Errorf("the handshake took %v, want at least %v", got, wait)
			}
			if got := took.Connected - took.Began; got <= 0 || took.Shaking < took.Connected {
				t.Errorf("got %+v, want TCP to take some time, before the handshake", took)
			}
		})
	}
}
