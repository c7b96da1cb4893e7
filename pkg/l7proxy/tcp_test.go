package l7proxy

import (
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

type addrPort = netip.AddrPort

func mustAddr(s string) addrPort { return netip.MustParseAddrPort(s) }

func portOf(i int) addrPort {
	return netip.MustParseAddrPort("10.0." + strconv.Itoa(i>>8&255) + "." + strconv.Itoa(i&255) + ":" + strconv.Itoa(1+i>>16))
}

const opaqueBytes = "\x00opaque "

func TestHalfCloseBothWays(t *testing.T) {
	for _, first := range []string{"client", "server"} {
		t.Run(first, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			c.send(opaqueBytes)
			srv := b.request()
			srv.expect(opaqueBytes)
			early, late := c, srv
			if first == "server" {
				early, late = srv, c
			}
			early.send("last words")
			_ = early.CloseWrite()
			late.expect("last words")
			late.expectEnd(nil)
			late.send("an answer")
			late.send(" and more")
			early.expect("an answer and more")
			_ = late.CloseWrite()
			early.expectEnd(nil)
			ev := e.tap.Wait(t, tap.ConnClose, 0)
			if ev.Reason != mesh.ReasonNone || ev.Reset || !ev.Success() || ev.Process != "curl" {
				t.Errorf("%+v", ev)
			}
			proxytest.Eventually(t, "closed", func() bool { return e.conns() == 0 })
		})
	}
}

// TestResetIsPassedOn: and put down to the side that it came from.
func TestResetIsPassedOn(t *testing.T) {
	for first, want := range map[string]mesh.Reason{"client": mesh.ReasonClientReset, "server": mesh.ReasonUpstreamReset} {
		t.Run(first, func(t *testing.T) {
			for i := range 20 {
				e, b := newEnv(t), newBackend(t)
				c := e.dial(b.addr)
				c.send(opaqueBytes)
				srv := b.request()
				srv.expect(opaqueBytes)
				early, late := c, srv
				if first == "server" {
					early, late = srv, c
				}
				_ = early.SetLinger(0)
				early.Close()
				late.expectEnd(unix.ECONNRESET)
				if ev := e.tap.Wait(t, tap.ConnClose, 0); ev.Reason != want || !ev.Reset {
					t.Fatalf("round %d: %s, want %s", i, ev.Reason, want)
				}
			}
		})
	}
}
