package l7proxy

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
	"golang.org/x/sys/unix"
)

// pickyNetwork reaches applications at some addresses, and says who went where.
type pickyNetwork struct {
	loopback
	to    netip.AddrPort // where all connections really go
	takes []netip.AddrPort
	fails error // of other addresses
	asked []string
}

func (n *pickyNetwork) DialApp(ctx context.Context, into string, dst, client netip.AddrPort) (*rawio.Conn, error) {
	n.asked = append(n.asked, into+" "+dst.String()+" as "+client.String())
	if !slices.Contains(n.takes, dst) {
		return nil, n.fails
	}
	return n.loopback.Dial(ctx, into, n.to)
}

func (n *pickyNetwork) Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error) {
	return n.DialApp(ctx, from, dst, netip.AddrPort{})
}

func TestOtherFamily(t *testing.T) {
	pod := func(uid string, addrs ...string) *mesh.Workload {
		w := &mesh.Workload{UID: uid}
		for _, a := range addrs {
			w.Addrs = append(w.Addrs, netip.MustParseAddr(a))
		}
		return w
	}
	dual, four := pod("server", "10.0.0.1", "fd00::1"), pod("server", "10.0.0.1")
	client, only := pod("client", "10.0.0.2", "fd00::2"), pod("client", "10.0.0.2")
	for name, tt := range map[string]struct {
		server, client *mesh.Workload
		dst, takes     string
		fails          error
		outside        bool
		want           []string
		reached        string // "": not at all, or where it was wanted
		ok             bool
	}{
		"listens there": {
			dual, client, "[fd00::1]:80", "[fd00::1]:80", unix.ECONNREFUSED, false,
			[]string{"server [fd00::1]:80 as [fd00::2]:999"},
			"", true,
		},
		"IPv4 alone": {
			dual, client, "[fd00::1]:80", "10.0.0.1:80", unix.ECONNREFUSED, false,
			[]string{"server [fd00::1]:80 as [fd00::2]:999", "server 10.0.0.1:80 as 10.0.0.2:999"},
			"10.0.0.1:80", true,
		},
		"IPv6 alone": {
			dual, client, "10.0.0.1:80", "[fd00::1]:80", unix.ECONNREFUSED, false,
			[]string{"server 10.0.0.1:80 as 10.0.0.2:999", "server [fd00::1]:80 as [fd00::2]:999"},
			"[fd00::1]:80", true,
		},
		"nowhere": {
			dual, client, "10.0.0.1:80", "10.0.0.1:81", unix.ECONNREFUSED, false,
			[]string{"server 10.0.0.1:80 as 10.0.0.2:999", "server [fd00::1]:80 as [fd00::2]:999"},
			"", false,
		},
		"not refused": {
			dual, client, "10.0.0.1:80", "[fd00::1]:80", unix.EHOSTUNREACH, false,
			[]string{"server 10.0.0.1:80 as 10.0.0.2:999"},
			"", false,
		},
		"a pod with one address": {
			four, client, "10.0.0.1:80", "[fd00::1]:80", unix.ECONNREFUSED, false,
			[]string{"server 10.0.0.1:80 as 10.0.0.2:999"},
			"", false,
		},
		"a client with one address": {
			dual, only, "10.0.0.1:80", "[fd00::1]:80", unix.ECONNREFUSED, false,
			[]string{"server 10.0.0.1:80 as 10.0.0.2:999"},
			"", false,
		},
		"an address that is not the pod's": {
			dual, client, "10.9.9.9:80", "[fd00::1]:80", unix.ECONNREFUSED, false,
			[]string{"server 10.9.9.9:80 as 10.0.0.2:999"},
			"", false,
		},
		"outside the mesh": {
			dual, client, "[fd00::1]:80", "10.0.0.1:80", unix.ECONNREFUSED, true,
			[]string{"client [fd00::1]:80 as invalid AddrPort", "client 10.0.0.1:80 as invalid AddrPort"},
			"10.0.0.1:80", true,
		},
		"nothing known": {
			nil, client, "[fd00::1]:80", "10.0.0.1:80", unix.ECONNREFUSED, true,
			[]string{"client [fd00::1]:80 as invalid AddrPort"},
			"", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			b := newBackend(t)
			network := &pickyNetwork{to: mustAddr(b.addr), takes: []netip.AddrPort{mustAddr(tt.takes)}, fails: tt.fails}
			e.proxy.Network = network
			dst := mustAddr(tt.dst)
			c := Choice{Peer: tap.Peer{Addr: dst, Workload: tt.server}, from: tt.client}
			var conn Conn
			var err error
			if tt.outside {
				conn, err = e.proxy.dialOutside(t.Context(), tt.client, &c)
			} else {
				as := netip.AddrPortFrom(ownAddress(tt.client, dst.Addr(), netip.Addr{}), 999)
				conn, err = e.proxy.dialApp(t.Context(), &c, as)
			}
			if (err == nil) != tt.ok || !tt.ok && reasonOf(err) != connectReason(tt.fails) {
				t.Errorf("%v", err)
			}
			if err == nil {
				conn.Close()
			}
			if d := cmp.Diff(tt.want, network.asked); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			want := tt.dst
			if tt.reached != "" {
				want = tt.reached
			}
			if got := c.peer().Addr.String(); got != want || c.Peer.Addr != dst {
				t.Errorf("tap has %s, want %s", got, want)
			}
		})
	}
}
