package redirect

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
	"golang.org/x/sys/unix"
)

// rig is a node with one enrolled pod, and a peer namespace across a veth.
type rig struct {
	d         *Datapath
	pod, peer *netns.NS
	workload  *mesh.Workload
	enrolled  *Pod
	options   Options
}

var (
	pod4, peer4 = netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("10.99.0.3")
	pod6, peer6 = netip.MustParseAddr("fd99::2"), netip.MustParseAddr("fd99::3")
)

func newRig(t testing.TB, settings mesh.Settings) *rig {
	nstest.RequireRoot(t)
	r := &rig{
		pod: nstest.New(t), peer: nstest.New(t),
		options: Options{CgroupRoot: nstest.Cgroup(t), PinRoot: nstest.BPFFS(t), HeartbeatTimeout: time.Minute},
		workload: &mesh.Workload{
			UID: "uid-a", Namespace: "test", Name: "a", Addrs: []netip.Addr{pod4, pod6}, Settings: settings,
		},
	}
	nstest.Join(t, r.pod, r.peer,
		[]netip.Prefix{netip.PrefixFrom(pod4, 24), netip.PrefixFrom(pod6, 64)},
		[]netip.Prefix{netip.PrefixFrom(peer4, 24), netip.PrefixFrom(peer6, 64)})
	r.load(t)
	r.enroll(t)
	return r
}

func (r *rig) load(t testing.TB) {
	t.Helper()
	d, err := Load(r.options)
	if err != nil {
		t.Fatal(err)
	}
	r.d = d
	t.Cleanup(func() { d.Cleanup() })
}

func (r *rig) enroll(t testing.TB) {
	t.Helper()
	// Enroll owns the namespace it is given: give it one of its own.
	ns, err := netns.Open("/proc/self/fd/" + strconv.Itoa(r.pod.FD()))
	if err != nil {
		t.Fatal(err)
	}
	r.enrolled, err = r.d.Enroll(r.workload, ns)
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects as an application in ns would: no mark.
func dial(t testing.TB, ns *netns.NS, dst netip.AddrPort) (*rawio.Conn, error) {
	t.Helper()
	fd, err := ns.Socket(dst.Addr(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return rawio.Connect(ctx, fd, dst)
}

func mustDial(t testing.TB, ns *netns.NS, dst netip.AddrPort) *rawio.Conn {
	t.Helper()
	c, err := dial(t, ns, dst)
	if err != nil {
		t.Fatalf("dial %s: %v", dst, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func listen(t testing.TB, ns *netns.NS, addr netip.Addr, port uint16) *rawio.Listener {
	t.Helper()
	l, err := ns.Listen(addr, port, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func original(p *Pod, c *rawio.Conn) (Original, bool) { return p.Original(c.Local(), c.Remote()) }

func accept(t testing.TB, l *rawio.Listener) *rawio.Conn {
	t.Helper()
	type result struct {
		c   *rawio.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		done <- result{c, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			t.Fatal(r.err)
		}
		t.Cleanup(func() { r.c.Close() })
		return r.c
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing arrived at %s", l.Addr())
		return nil
	}
}

func names(t *testing.T, c *rawio.Conn) (local, remote netip.AddrPort) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		l, lerr := unix.Getsockname(int(fd))
		r, rerr := unix.Getpeername(int(fd))
		if lerr != nil || rerr != nil {
			t.Errorf("getsockname: %v, getpeername: %v", lerr, rerr)
			return
		}
		local, remote = rawio.AddrPort(l), rawio.AddrPort(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	return local, remote
}

func TestOutboundCapture(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	for name, dst := range map[string]netip.AddrPort{
		"IPv4 that nobody routes": netip.MustParseAddrPort("192.0.2.1:80"),
		"IPv4 of a peer":          netip.AddrPortFrom(peer4, 8080),
		"IPv6 of a peer":          netip.AddrPortFrom(peer6, 8080),
	} {
		t.Run(name, func(t *testing.T) {
			client := mustDial(t, r.pod, dst)
			listener, own := r.enrolled.Outbound[0], pod4
			if dst.Addr().Is6() {
				listener, own = r.enrolled.Outbound[1], pod6
			}
			server := accept(t, listener)
			got, ok := original(r.enrolled, server)
			if !ok || got.Addr != dst {
				t.Fatalf("original destination = %v, %v; want %s", got.Addr, ok, dst)
			}
			if got.PID != uint32(os.Getpid()) || got.Process == "" {
				t.Errorf("process = %q (%d), want this one (%d)", got.Process, got.PID, os.Getpid())
			}
			if _, again := original(r.enrolled, server); again {
				t.Error("the original destination is there a second time")
			}
			local, remote := names(t, client)
			if remote != dst {
				t.Errorf("the application sees peer %s, want %s", remote, dst)
			}
			if local.Addr() != own {
				t.Errorf("the application sees itself as %s, want %s", local.Addr(), own)
			}
			if _, err := client.Write([]byte("ping")); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 4)
			if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "ping" {
				t.Fatalf("read %q, %v", buf, err)
			}
		})
	}
}

// A v4-mapped destination on an IPv6 socket runs only the connect6 hook.
func TestOutboundCaptureMapped(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	var fd int
	err := r.pod.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	dst := netip.MustParseAddrPort("192.0.2.1:80")
	if err := unix.Connect(fd, &unix.SockaddrInet6{Port: 80, Addr: dst.Addr().As16()}); err != nil {
		t.Fatalf("connect: %v", err)
	}
	server := accept(t, r.enrolled.Outbound[0])
	if got, ok := original(r.enrolled, server); !ok || got.Addr != dst {
		t.Fatalf("original destination = %v, %v; want %s", got.Addr, ok, dst)
	}
	for what, name := range map[string]func(int) (unix.Sockaddr, error){"getpeername": unix.Getpeername, "getsockname": unix.Getsockname} {
		sa, err := name(fd)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		want := dst.Addr()
		if what == "getsockname" {
			want = pod4
		}
		if got := rawio.AddrPort(sa).Addr(); got != want {
			t.Errorf("%s = %s, want %s", what, got, want)
		}
	}
}

func TestOutboundPasses(t *testing.T) {
	r := newRig(t, mesh.Settings{SkipOutboundPorts: []mesh.PortRange{{First: 25, Last: 25}, {First: 9000, Last: 9010}}})
	server := listen(t, r.peer, peer4, 9005)
	own := listen(t, r.pod, pod4, 7000)
	loop := listen(t, r.pod, v4Loopback, 7001)
	for name, l := range map[string]*rawio.Listener{"skipped port": server, "own address": own, "loopback": loop} {
		t.Run(name, func(t *testing.T) {
			mustDial(t, r.pod, l.Addr())
			accept(t, l)
		})
	}
	t.Run("unspecified address", func(t *testing.T) {
		everywhere := listen(t, r.pod, netip.IPv4Unspecified(), 7003)
		mustDial(t, r.pod, everywhere.Addr())
		accept(t, everywhere)
	})
	t.Run("bound to a device", func(t *testing.T) {
		l := listen(t, r.peer, peer4, 7002)
		fd, err := r.pod.Socket(peer4, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.BindToDevice(fd, "eth0"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		c, err := rawio.Connect(ctx, fd, l.Addr())
		if err != nil {
			t.Fatalf("connect: %v", err)
		}
		c.Close()
		accept(t, l)
	})
	t.Run("UDP", func(t *testing.T) {
		err := r.pod.Do(func() error {
			c, err := net.Dial("udp", netip.AddrPortFrom(peer4, 53).String())
			if err != nil {
				return err
			}
			defer c.Close()
			if got := c.RemoteAddr().String(); got != "10.99.0.3:53" {
				t.Errorf("connected to %s", got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	counts, err := r.d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if counts["passed-skipped-port"] != 1 || counts["passed-bound-device"] != 1 {
		t.Errorf("counters = %v", counts)
	}
}

func TestInbound(t *testing.T) {
	r := newRig(t, mesh.Settings{SkipInboundPorts: []mesh.PortRange{{First: 9100, Last: 9100}}})
	for _, family := range []struct {
		name      string
		pod, peer netip.Addr
		in        *rawio.Listener
	}{{"IPv4", pod4, peer4, r.enrolled.Inbound[0]}, {"IPv6", pod6, peer6, r.enrolled.Inbound[1]}} {
		t.Run(family.name, func(t *testing.T) {
			app := listen(t, r.pod, family.pod, 8080)
			client := mustDial(t, r.peer, app.Addr())
			steered := accept(t, family.in)
			if steered.Local() != app.Addr() {
				t.Errorf("getsockname() = %s, want the original destination %s", steered.Local(), app.Addr())
			}
			if steered.Remote().Addr() != family.peer {
				t.Errorf("client = %s, want %s", steered.Remote(), family.peer)
			}
			// The agent's own dial to the application is not steered, and the
			// application sees the client.
			up, err := r.enrolled.DialApp(t.Context(), app.Addr(), client.Local())
			if err != nil {
				t.Fatal(err)
			}
			defer up.Close()
			served := accept(t, app)
			if served.Remote() != client.Local() {
				t.Errorf("accept() says %s, want the client %s", served.Remote(), client.Local())
			}
			if _, remote := names(t, served); remote != client.Local() {
				t.Errorf("getpeername() says %s, want the client %s", remote, client.Local())
			}
			skipped := listen(t, r.pod, family.pod, 9100)
			mustDial(t, r.peer, skipped.Addr())
			accept(t, skipped)
		})
	}
}

// readEvents reads the kernel's events until the end of the test. The function waits for the
// next one of a kind.
func readEvents(t *testing.T, r *rig) func(EventKind) Event {
	t.Helper()
	events := make(chan Event, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.d.ReadEvents(ctx, func(e *Event) { events <- *e }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(kind EventKind) Event {
		t.Helper()
		for {
			select {
			case e := <-events:
				if e.Kind == kind {
					return e
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("no event of kind %d", kind)
			}
		}
	}
}

func TestKernelEvents(t *testing.T) {
	r := newRig(t, mesh.Settings{SkipOutboundPorts: []mesh.PortRange{{First: 8080, Last: 8081}}})
	outside := listen(t, r.peer, peer4, 8080)
	next := readEvents(t, r)

	c := mustDial(t, r.pod, outside.Addr())
	s := accept(t, outside)
	open := next(EventConnect)
	if open.Remote != outside.Addr() || open.Local.Addr() != pod4 || open.PID != uint32(os.Getpid()) || open.Process == "" {
		t.Errorf("connect event = %+v", open)
	}
	c.Write(make([]byte, 1000))
	io.ReadFull(s, make([]byte, 1000))
	s.Write(make([]byte, 50))
	io.ReadFull(c, make([]byte, 50))
	s.Close()
	c.Read(make([]byte, 1))
	c.Close()
	closed := next(EventClose)
	if closed.Sent != 1000 || closed.Received != 50 || closed.SRTT <= 0 || closed.MinRTT <= 0 || closed.MinRTT > closed.SRTT || closed.Err != nil {
		t.Errorf("close event = %+v", closed)
	}

	if _, err := dial(t, r.pod, netip.AddrPortFrom(peer4, 8081)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("dial a closed port: %v", err)
	}
	if e := next(EventFailed); !errors.Is(e.Err, unix.ECONNREFUSED) {
		t.Errorf("failed event = %+v", e)
	}
}

func TestSecondAgentAndCleanup(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	if d, err := Load(r.options); err == nil {
		d.Close()
		t.Error("a second agent was let in")
	}
	if err := Cleanup(r.options.PinRoot, r.options.CgroupRoot); err == nil {
		t.Error("cleanup under a running agent")
	}
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Cleanup(r.options.PinRoot, r.options.CgroupRoot); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.options.PinRoot); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pin directory is still there: %v", err)
	}
	outside := listen(t, r.peer, peer4, 8080)
	mustDial(t, r.pod, outside.Addr())
	accept(t, outside)
}
