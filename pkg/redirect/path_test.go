package redirect

import (
	"errors"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// pathRig is a rig whose peer is an enrolled pod as well, strict unless settings say
// otherwise.
type pathRig struct {
	*rig
	server *Pod
}

func newPathRig(t *testing.T) *pathRig {
	r := &pathRig{rig: newRig(t, mesh.Settings{})}
	ns, err := netns.Open("/proc/self/fd/" + strconv.Itoa(r.peer.FD()))
	if err != nil {
		t.Fatal(err)
	}
	w := &mesh.Workload{
		UID: "uid-b", Namespace: "test", Name: "b", Addrs: []netip.Addr{peer4, peer6},
		Settings: mesh.Settings{Policy: mesh.PolicyStrict},
	}
	if r.server, err = r.d.Enroll(w, ns); err != nil {
		t.Fatal(err)
	}
	return r
}

// path sets a path from the rig's pod to an endpoint of its server, and returns it.
func (r *pathRig) path(t *testing.T, dst, endpoint netip.AddrPort) Path {
	t.Helper()
	p := Path{PathKey{r.enrolled.Cookie(), dst}, r.server.Cookie(), endpoint}
	if err := r.d.SetPath(p); err != nil {
		t.Fatal(err)
	}
	return p
}

// dialMapped is mustDial for an IPv4 destination with a socket of IPv6.
func dialMapped(t testing.TB, ns *netns.NS, dst netip.AddrPort) *rawio.Conn {
	t.Helper()
	var fd int
	err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet6{Port: int(dst.Port()), Addr: dst.Addr().As16()})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := rawio.NewConn(fd, netip.AddrPort{}, dst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestPath: a connection with a path reaches the application and no listener of the agent's,
// in both families; each side sees the addresses that it would see without the mesh, and the
// kernel reports both.
func TestPath(t *testing.T) {
	for name, tc := range map[string]struct {
		dst, endpoint string
		mapped        bool
	}{
		"IPv4":                   {"192.0.2.7:80", peer4.String() + ":8080", false},
		"IPv6":                   {"[2001:db8::7]:80", "[" + peer6.String() + "]:8080", false},
		"IPv4 of an IPv6 socket": {"192.0.2.7:80", peer4.String() + ":8080", true},
		"the pod's own address":  {peer4.String() + ":8080", peer4.String() + ":8080", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPathRig(t)
			dst, endpoint := netip.MustParseAddrPort(tc.dst), netip.MustParseAddrPort(tc.endpoint)
			app := listen(t, r.peer, endpoint.Addr(), endpoint.Port())
			next := readEvents(t, r.rig)
			r.path(t, dst, endpoint)

			connect := mustDial
			if tc.mapped {
				connect = dialMapped
			}
			client := connect(t, r.pod, dst)
			server := accept(t, app)
			local, remote := names(t, client)
			if remote != dst {
				t.Errorf("the client sees the peer %s, want %s", remote, dst)
			}
			if want := map[bool]netip.Addr{true: pod4, false: pod6}[dst.Addr().Is4()]; local.Addr() != want {
				t.Errorf("the client sees itself as %s, want %s", local.Addr(), want)
			}
			if got, peer := names(t, server); got != endpoint || peer != local {
				t.Errorf("the server sees %s from %s, want %s from %s", got, peer, endpoint, local)
			}
			if e := next(EventConnect); !e.ByPath || e.Server || e.Remote != dst || e.Endpoint != endpoint || e.NetnsCookie != r.enrolled.Cookie() {
				t.Errorf("got the event %+v of the client, want one by the path, to %s at %s", e, dst, endpoint)
			}
			if e := next(EventAccept); !e.ByPath || !e.Server || e.Remote != local || e.NetnsCookie != r.server.Cookie() {
				t.Errorf("got the event %+v of the server, want one by the path, from %s", e, local)
			}
			client.Close()
			if e := next(EventClose); !e.ByPath {
				t.Errorf("got the event %+v at the end, want one by the path", e)
			}
			counts, err := r.d.Counters()
			if err != nil {
				t.Fatal(err)
			}
			if counts["kernel-path"] != 1 || counts["kernel-path-admitted"] != 1 || counts["captured-inbound"] != 0 {
				t.Errorf("got the counters %v, want one kernel-path, admitted, and nothing captured inbound", counts)
			}
		})
	}
}

// TestPathIsTakenBack: without its path a connection goes to the agent, and so does a
// connection to the server that no path has let in.
func TestPathIsTakenBack(t *testing.T) {
	r := newPathRig(t)
	dst, endpoint := netip.MustParseAddrPort("192.0.2.7:80"), netip.AddrPortFrom(peer4, 8080)
	app := listen(t, r.peer, endpoint.Addr(), endpoint.Port())
	p := r.path(t, dst, endpoint)
	mustDial(t, r.pod, dst)
	accept(t, app)

	if err := r.d.DeletePath(p.PathKey); err != nil {
		t.Fatal(err)
	}
	if err := r.d.DeletePath(p.PathKey); err != nil {
		t.Errorf("delete a path that is not there: %v", err)
	}
	mustDial(t, r.pod, dst)
	if got, ok := original(r.enrolled, accept(t, r.enrolled.Outbound[0])); !ok || got.Addr != dst {
		t.Errorf("without its path: got %v %v at the agent, want %s", got, ok, dst)
	}

	// The agent's mark keeps this one out of the outbound hook, and no flow lets it in.
	fd, err := r.pod.Socket(endpoint.Addr(), Mark)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := rawio.Connect(t.Context(), fd, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	accept(t, r.server.Inbound[0])
}

// TestPathOfAnotherPod: a path lets connections only into the pod that it names, also if
// another one has its address.
func TestPathOfAnotherPod(t *testing.T) {
	r := newPathRig(t)
	dst, endpoint := netip.MustParseAddrPort("192.0.2.7:80"), netip.AddrPortFrom(peer4, 8080)
	listen(t, r.peer, endpoint.Addr(), endpoint.Port())
	if err := r.d.SetPath(Path{PathKey{r.enrolled.Cookie(), dst}, r.server.Cookie() + 1, endpoint}); err != nil {
		t.Fatal(err)
	}
	mustDial(t, r.pod, dst)
	accept(t, r.server.Inbound[0])
}

// TestPathWithoutAgent: no connection takes a path whose agent does not live: its policy may
// be old.
func TestPathWithoutAgent(t *testing.T) {
	r := newPathRig(t)
	r.d.Cleanup()
	r.options.HeartbeatTimeout = 50 * time.Millisecond
	r.load(t)
	r.enroll(t)
	dst := netip.MustParseAddrPort("192.0.2.7:80")
	r.path(t, dst, netip.AddrPortFrom(peer4, 8080))
	r.d.heart.Stop()
	time.Sleep(100 * time.Millisecond)
	_, err := dial(t, r.pod, dst) // the pod fails open, and nobody routes the address
	if !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("got %v, want that nobody routes %s", err, dst.Addr())
	}
	if counts, err := r.d.Counters(); err != nil || counts["kernel-path"] != 0 || counts["passed-stale-agent"] != 1 {
		t.Errorf("got the counters %v, %v, want no kernel-path and one passed-stale-agent", counts, err)
	}
}

// TestPathOneSourceTwoNames: a program may connect one address and port to two names of one
// endpoint, which cannot both be the kernel's path.
func TestPathOneSourceTwoNames(t *testing.T) {
	r := newPathRig(t)
	endpoint := netip.AddrPortFrom(peer4, 8080)
	listen(t, r.peer, endpoint.Addr(), endpoint.Port())
	for _, name := range []string{"192.0.2.7:80", "192.0.2.8:80"} {
		dst := netip.MustParseAddrPort(name)
		r.path(t, dst, endpoint)
		c, err := dialFrom(t, r.rig, netip.AddrPortFrom(pod4, 23999), dst)
		if err != nil {
			t.Fatalf("from a bound port to %s: %v", dst, err)
		}
		t.Cleanup(func() { c.Close() })
	}
}

// TestPaths lists what was set, and refuses an endpoint of another family.
func TestPaths(t *testing.T) {
	r := newPathRig(t)
	want := r.path(t, netip.MustParseAddrPort("[2001:db8::7]:80"), netip.AddrPortFrom(peer6, 8080))
	if got, err := r.d.Paths(); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if err := r.d.SetPath(Path{PathKey{1, netip.MustParseAddrPort("192.0.2.7:80")}, 2, want.Endpoint}); err == nil {
		t.Error("got no error for a path from IPv4 to IPv6, want one")
	}
}

// TestFlows: the open connections of the kernel path are listed when their path is there no
// more, and when another agent has loaded the programs, until they end.
func TestFlows(t *testing.T) {
	r := newPathRig(t)
	want := map[netip.AddrPort]bool{}
	var open []*rawio.Conn
	for _, addr := range []netip.Addr{peer4, peer6} {
		endpoint := netip.AddrPortFrom(addr, 8080)
		app := listen(t, r.peer, addr, endpoint.Port())
		p := r.path(t, endpoint, endpoint)
		open = append(open, mustDial(t, r.pod, endpoint))
		accept(t, app)
		want[endpoint] = true
		if err := r.d.DeletePath(p.PathKey); err != nil {
			t.Fatal(err)
		}
	}
	client, server := r.enrolled.Cookie(), r.server.Cookie()
	check := func(when string) {
		t.Helper()
		list, err := r.d.Flows()
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != len(want) {
			t.Errorf("%s: got %v, want connections to %v", when, list, want)
		}
		for _, f := range list {
			if f.Client != client || f.Server != server || !want[f.Endpoint] {
				t.Errorf("%s: got %+v, want one from %d in %d to one of %v", when, f, client, server, want)
			}
		}
	}
	check("without their paths")
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	r.load(t)
	r.enroll(t)
	check("with another agent")
	for _, c := range open {
		c.Reset() // no TIME_WAIT
		c.Close()
	}
	clear(want)
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		if list, err := r.d.Flows(); err != nil || len(list) == 0 { // the kernel frees sockets later
			break
		}
	}
	check("at their end")
}

// TestDestroy: a connection is ended by its addresses, and no other; its program gets
// ECONNABORTED and its peer ECONNRESET. That there is none is no error.
func TestDestroy(t *testing.T) {
	if err := netns.CanDestroy(); err != nil {
		t.Fatalf("this kernel cannot end connections: %v", err)
	}
	for _, addr := range []netip.Addr{peer4, peer6} {
		t.Run(addr.String(), func(t *testing.T) {
			r := newPathRig(t)
			endpoint := netip.AddrPortFrom(addr, 8080)
			app := listen(t, r.peer, addr, endpoint.Port())
			r.path(t, endpoint, endpoint)
			client, other := mustDial(t, r.pod, endpoint), mustDial(t, r.pod, endpoint)
			servers := map[netip.AddrPort]*rawio.Conn{}
			for range 2 {
				c := accept(t, app)
				servers[c.Remote()] = c
			}
			local, _ := names(t, client)
			if err := r.enrolled.Destroy(local, endpoint); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("%s: got %v at the client, want ECONNABORTED", endpoint, err)
			}
			if _, err := servers[local].Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%s: got %v at the server, want ECONNRESET", endpoint, err)
			}
			if err := r.enrolled.Destroy(local, endpoint); err != nil {
				t.Errorf("%s: again: got %v, want no error", endpoint, err)
			}
			there, _ := names(t, other)
			if _, err := other.Write([]byte("x")); err != nil {
				t.Errorf("%s: the other connection: %v", endpoint, err)
			}
			if _, err := servers[there].Read(make([]byte, 1)); err != nil {
				t.Errorf("%s: the other connection: %v", endpoint, err)
			}
		})
	}
}
