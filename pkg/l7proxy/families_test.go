package l7proxy

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// pickyNetwork reaches applications at some addresses, and says who went where.
type pickyNetwork struct {
	proxytest.Network
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
	return n.Network.Dial(ctx, into, n.to)
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
			e.proxy.upstream.Network = network
			dst := mustAddr(tt.dst)
			ep := upstream.Endpoint{Peer: tap.Peer{Addr: dst, Workload: tt.server}, Client: tt.client, Mode: upstream.SameNode}
			if tt.outside {
				ep.Mode = upstream.Plaintext
			}
			as := netip.AddrPortFrom(destination.PodAddress(tt.client, dst.Addr(), netip.Addr{}), 999)
			c, found, err := e.proxy.upstream.Dial(t.Context(), &ep, as, "")
			if (err == nil) != tt.ok || !tt.ok && upstream.ReasonOf(err) != map[error]mesh.Reason{unix.ECONNREFUSED: mesh.ReasonConnectRefused, unix.EHOSTUNREACH: mesh.ReasonConnectFailed}[tt.fails] {
				t.Errorf("%v", err)
			}
			if err == nil {
				c.Close()
			}
			if d := cmp.Diff(tt.want, network.asked); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			want := tt.dst
			if tt.reached != "" {
				want = tt.reached
			}
			if got := found.Peer.Addr.String(); got != want || ep.Peer.Addr != dst {
				t.Errorf("tap has %s, want %s", got, want)
			}
		})
	}
}
