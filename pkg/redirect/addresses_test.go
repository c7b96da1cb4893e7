package redirect

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
	"golang.org/x/sys/unix"
)

// later are addresses that a pod is given when it is enrolled: the cluster does
// not know them. Secondary ones of the network that it is in, which Linux does not
// take for the source of the pod's own connections, ones of another network, and a
// link-local one.
func later(t *testing.T, r *rig) map[string]netip.Addr {
	t.Helper()
	addrs := map[string]netip.Addr{}
	for name, prefix := range map[string]string{
		"secondary IPv4": "10.99.0.22/24", "other IPv4": "10.98.0.2/24",
		"secondary IPv6": "fd99::22/64", "other IPv6": "fd98::2/64", "link-local": "fe80::22/64",
	} {
		p := netip.MustParsePrefix(prefix)
		nstest.AddAddr(t, r.pod, p)
		addrs[name] = p.Addr()
	}
	for _, prefix := range []string{"10.98.0.3/24", "fd98::3/64", "fe80::33/64"} {
		nstest.AddAddr(t, r.peer, netip.MustParsePrefix(prefix))
	}
	return addrs
}

// at is addr as a socket in ns says it.
func at(t *testing.T, ns *netns.NS, addr netip.Addr, port uint16) netip.AddrPort {
	if addr.IsLinkLocalUnicast() && addr.Is6() {
		addr = addr.WithZone(strconv.Itoa(nstest.Index(t, ns)))
	}
	return netip.AddrPortFrom(addr, port)
}

// Every address of the pod's namespace is captured, and the agent reaches the
// application at it.
func TestAddressesThatNobodyKnows(t *testing.T) {
	r := newRig(t, mesh.Settings{Policy: mesh.PolicyStrict})
	app := listen(t, r.pod, netip.IPv6Unspecified(), 8080)
	for name, addr := range later(t, r) {
		t.Run(name, func(t *testing.T) {
			client := mustDial(t, r.peer, at(t, r.peer, addr, 8080))
			in := r.enrolled.Inbound[0]
			if addr.Is6() {
				in = r.enrolled.Inbound[1]
			}
			steered := accept(t, in)
			if want := at(t, r.pod, addr, 8080); steered.Local() != want {
				t.Fatalf("getsockname() = %s, want the original destination %s", steered.Local(), want)
			}
			up, err := r.enrolled.DialApp(t.Context(), steered.Local(), steered.Remote())
			if err != nil {
				t.Fatal(err)
			}
			defer up.Close()
			served := accept(t, app)
			if got, want := served.Remote(), steered.Remote(); got != want || got.Port() != client.Local().Port() {
				t.Errorf("accept() says %s, want the client %s", got, want)
			}
			if got := served.Local(); got != steered.Local() {
				t.Errorf("the application is at %s, want %s", got, steered.Local())
			}
		})
	}
}

// Without its agent a strict pod is closed at all of them.
func TestAddressesThatNobodyKnowsAreClosed(t *testing.T) {
	r := newRig(t, mesh.Settings{Policy: mesh.PolicyStrict})
	app := listen(t, r.pod, netip.IPv6Unspecified(), 8080)
	r.hang(t)
	for name, addr := range later(t, r) {
		c, err := dial(t, r.peer, at(t, r.peer, addr, 8080))
		tried(t, name, app, c, err, false, unix.ECONNREFUSED)
	}
}

// A process of the node reaches the application at all of them.
func TestTheNodesProcessesAtAddressesThatNobodyKnows(t *testing.T) {
	r := newRig(t, mesh.Settings{Policy: mesh.PolicyStrict})
	app := listen(t, r.pod, netip.IPv6Unspecified(), 8080)
	r.d.heart.Stop()
	r.d.hostCookie = r.peer.Cookie() // which stands for the host's
	if err := r.d.beat(); err != nil {
		t.Fatal(err)
	}
	for name, addr := range later(t, r) {
		t.Run(name, func(t *testing.T) {
			mustDial(t, r.peer, at(t, r.peer, addr, 8080))
			accept(t, app)
		})
	}
}

// A pod that talks to itself, from whichever address to whichever, is left alone:
// by its own, and by the agent's hand where the hooks took its destination for
// somebody else's.
func TestFromOneOwnAddressToAnother(t *testing.T) {
	fromOneOwnAddressToAnother(t, newRig(t, mesh.Settings{Policy: mesh.PolicyStrict, SkipOutboundPorts: []mesh.PortRange{{First: 8080, Last: 8080}}}))
}

func fromOneOwnAddressToAnother(t *testing.T, r *rig) {
	app := listen(t, r.pod, netip.IPv6Unspecified(), 8080)
	addrs := later(t, r)
	addrs["known IPv4"], addrs["known IPv6"] = pod4, pod6
	for name, dst := range addrs {
		for from, src := range addrs {
			if src.Is4() != dst.Is4() || src.IsLinkLocalUnicast() != dst.IsLinkLocalUnicast() {
				continue
			}
			t.Run(fmt.Sprintf("%s to %s", from, name), func(t *testing.T) {
				for _, mark := range []uint32{0, Mark} {
					fd, err := r.pod.Socket(dst, mark)
					if err != nil {
						t.Fatal(err)
					}
					if err := unix.Bind(fd, rawio.Sockaddr(at(t, r.pod, src, 0))); err != nil {
						t.Fatal(err)
					}
					c, err := rawio.Connect(t.Context(), fd, at(t, r.pod, dst, 8080))
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					if s := accept(t, app); s.Remote() != c.Local() {
						t.Errorf("the application sees %s, want %s", s.Remote(), c.Local())
					}
				}
			})
		}
	}
}

// What was filed of a pod that talks to itself is its own, and does not last.
func TestInnerFlowsAge(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	app := listen(t, r.pod, pod4, 8080)
	for name, c := range map[string]struct {
		cookie, age uint64
		captured    bool
	}{"young": {r.pod.Cookie(), 5e9, false}, "old": {r.pod.Cookie(), 11e9, true}, "another pod's": {r.peer.Cookie(), 0, true}} {
		fd, err := r.peer.Socket(peer4, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, rawio.Sockaddr(netip.AddrPortFrom(peer4, 0))); err != nil {
			t.Fatal(err)
		}
		sa, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		key := bpf.UnderlaneInnerFlowKey{NetnsCookie: c.cookie, Flow: bpf.UnderlaneFlowKey{
			Client: mapAddress(peer4), ClientPort: rawio.AddrPort(sa).Port(),
			Server: mapAddress(pod4), ServerPort: 8080,
		}}
		if err := r.d.objs.InnerFlows.Put(&key, monotonicNow()-c.age); err != nil {
			t.Fatal(err)
		}
		conn, err := rawio.Connect(t.Context(), fd, app.Addr())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer conn.Close()
		if c.captured {
			accept(t, r.enrolled.Inbound[0])
		} else {
			accept(t, app)
		}
	}
}

// A program for each pod is cheap enough for a full node.
func BenchmarkLoadLookup(b *testing.B) {
	nstest.RequireRoot(b)
	d, err := Load(Options{CgroupRoot: nstest.Cgroup(b), PinRoot: nstest.BPFFS(b), HeartbeatTimeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Cleanup() })
	for i := range b.N {
		prog, err := d.lookups.load(uint64(i))
		if err != nil {
			b.Fatal(err)
		}
		prog.Close()
	}
}
