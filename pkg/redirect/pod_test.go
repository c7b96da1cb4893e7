package redirect

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"golang.org/x/sys/unix"
)

// What the kernel lacks is named, not only the system call that failed.
func TestExplain(t *testing.T) {
	d := &Datapath{}
	d.opts, d.log = Options{CgroupRoot: t.TempDir(), PinRoot: t.TempDir()}, slog.Default()
	text := d.explain(unix.EINVAL).Error()
	for _, want := range []string{"invalid argument", "is not on a cgroup v2 file system", "mount -t bpf bpf /sys/fs/bpf"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
}

// Everything that is needed is there, or the other tests could not pass.
func TestProbes(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	for _, p := range slices.Concat(KernelProbes(r.options.CgroupRoot, r.options.PinRoot), OptionalProbes(), PinProbes(r.options.PinRoot)) {
		if err := p.Run(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if err := r.d.Cleanup(); err != nil {
		t.Fatal(err)
	}
	for _, p := range PinProbes(r.options.PinRoot) {
		if p.Run() == nil {
			t.Errorf("%s: true without pins", p.Name)
		}
	}
}

// A pod's address may be given to the next pod before the first is gone.
func TestWithdrawKeepsTheNextPodsAddress(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	next := *r.workload
	next.UID, next.Name = "uid-b", "b"
	ns, err := netns.Open("/proc/self/fd/" + strconv.Itoa(r.peer.FD()))
	if err != nil {
		t.Fatal(err)
	}
	enrolled, err := r.d.Enroll(&next, ns)
	if err != nil {
		t.Fatal(err)
	}
	r.d.Withdraw(r.workload.UID)
	mustDial(t, r.pod, netip.AddrPortFrom(peer4, 8080))
	accept(t, enrolled.Inbound[0])
}

// A dial that fails must not name a client to whoever gets its port next.
func TestFailedDialLeavesNoName(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	closed := listen(t, r.pod, pod4, 0)
	dst := closed.Addr()
	closed.Close()
	if _, err := r.enrolled.DialApp(t.Context(), dst, dst); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("dial a closed port: %v", err)
	}
	dump, err := r.d.Dump()
	if err != nil {
		t.Fatal(err)
	}
	if len(dump.PeerNames) != 0 {
		t.Errorf("peer names left: %v", dump.PeerNames)
	}
}

// Connections that a pod had when it was taken out are served to their end.
func TestDialAfterWithdraw(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	app := listen(t, r.pod, pod4, 8080)
	client := listen(t, r.peer, peer4, 0).Addr()
	r.enrolled.Hold()
	r.d.Withdraw(r.workload.UID)
	c, err := r.enrolled.DialApp(t.Context(), app.Addr(), client)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if served := accept(t, app); served.Remote() != client {
		t.Errorf("the application sees %s, want the client %s", served.Remote(), client)
	}
	r.enrolled.Release()
	if _, err := r.enrolled.Dial(t.Context(), netip.Addr{}, client); err == nil {
		t.Error("the namespace is still open after the last release")
	}
}

// Where the pod's application has the agent's port the agent takes another, and
// the hooks are told which.
func TestPortTaken(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	r.d.Withdraw(r.workload.UID)
	r.enrolled.CloseListeners()
	taken := listen(t, r.pod, v4Loopback, OutboundPort)
	if taken.Addr().Port() != OutboundPort {
		t.Fatalf("port %d is still taken after the pod was withdrawn", OutboundPort)
	}
	r.enroll(t)
	if got := r.enrolled.Outbound[0].Addr().Port(); got == OutboundPort {
		t.Fatal("two listeners on one port")
	}
	mustDial(t, r.pod, listen(t, r.peer, peer4, 8080).Addr())
	accept(t, r.enrolled.Outbound[0])
}

// An agent that was killed leaves its port in the maps, and the next may get
// another one: a connection passes the agent by until that one listens, and is
// never sent to where nobody does.
func TestEnrollAfterAnAgentOnAnotherPort(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	app := listen(t, r.peer, peer4, 80)
	go func() {
		for {
			c, err := app.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	for range 20 {
		stale := r.enrolled.config
		stale.OutboundPort4 = 1
		r.d.Withdraw(r.workload.UID)
		r.enrolled.CloseListeners()
		if err := r.d.objs.Pods.Put(r.pod.Cookie(), &stale); err != nil {
			t.Fatal(err)
		}
		began, enough, failed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			defer close(failed)
			for n := 0; ; n++ {
				if n == 3 {
					close(began)
				}
				select {
				case <-enough:
					return
				default:
				}
				c, err := dial(t, r.pod, netip.AddrPortFrom(peer4, 80))
				if err != nil {
					failed <- err
					return
				}
				c.Close()
			}
		}()
		<-began
		r.enroll(t)
		close(enough)
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
}
