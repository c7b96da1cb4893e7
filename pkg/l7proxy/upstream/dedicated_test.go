package upstream

import (
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mtls"
)

// TestDedicatedConns: a connection that carries one HTTP/1 connection counts from its
// handshake until it is closed, once, and one that carries streams does not.
func TestDedicatedConns(t *testing.T) {
	s := newShaker(t, nil, (*shaker).accept)
	for alpn, each := range map[string]int{mtls.ALPNHTTP1: 1, mtls.ALPNHTTP2: 0} {
		counts := func(when string, want int) {
			t.Helper()
			if got := s.dedicated.to(s.ep.Key); got != want {
				t.Errorf("%s, %s: %d dedicated connections, want %d", alpn, when, got, want)
			}
		}
		var conns []conn.Conn
		for range 2 {
			ep := s.ep
			c, _, err := s.Dial(t.Context(), &ep, netip.AddrPort{}, alpn)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		counts("two made", 2*each)
		for i, c := range conns {
			c.Close()
			c.Close()
			counts("closed twice", (1-i)*each)
		}
	}
}
