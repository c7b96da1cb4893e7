package redirect

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// inCgroup runs f with this process in a cgroup below the test's.
func inCgroup(t *testing.T, root, path string, f func()) {
	t.Helper()
	dir := filepath.Join(root, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	move := func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	}
	move(dir)
	f()
	move(root)
	for ; dir != root; dir = filepath.Dir(dir) {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	}
}

// The peer's namespace stands for the host's.
func TestTheNodesProcessesReachTheApplication(t *testing.T) {
	r := newRig(t, mesh.Settings{Policy: mesh.PolicyStrict, FailClosed: true})
	r.d.heart.Stop() // which knows the true host; one beat lasts for the test
	for _, pod := range []netip.Addr{pod4, pod6} {
		in := r.enrolled.Inbound[0]
		if pod.Is6() {
			in = r.enrolled.Inbound[1]
		}
		app := listen(t, r.pod, pod, 0)
		fromHost := func(cookie uint64) {
			t.Helper()
			r.d.hostCookie = cookie
			if err := r.d.beat(); err != nil {
				t.Fatal(err)
			}
		}
		// An address of the node alone, as of what came in at a NodePort.
		fromHost(r.pod.Cookie())
		mustDial(t, r.peer, app.Addr())
		accept(t, in)

		fromHost(r.peer.Cookie())
		for cgroup, captured := range map[string]bool{
			"":                    false,
			"system.slice":        false,
			"system.slice/a/b/c":  false,
			"not-kubepods/x":      false,
			"kubepods/besteffort": true,
			"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/cri-containerd-y.scope": true,
			"kubelet.slice/kubelet-kubepods.slice/pod/z":                                                   true,
			"1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17":                                                    true, // too deep to tell
		} {
			before, err := r.d.Counters()
			if err != nil {
				t.Fatal(err)
			}
			inCgroup(t, r.options.CgroupRoot, cgroup, func() { mustDial(t, r.peer, app.Addr()) })
			if captured {
				accept(t, in)
				continue
			}
			if c := accept(t, app); c.Remote().Addr() == pod {
				t.Errorf("from %q: the application sees %s", cgroup, c.Remote())
			}
			after, err := r.d.Counters()
			if err != nil || after["passed-host-process"] != before["passed-host-process"]+1 {
				t.Errorf("from %q: counted %d, before %d, %v", cgroup, after["passed-host-process"], before["passed-host-process"], err)
			}
		}
		// A closed port is a refusal, also of a pod that fails closed: a TCP probe
		// learns that nobody listens.
		if _, err := dial(t, r.peer, netip.AddrPortFrom(pod, 9)); err == nil {
			t.Error("a port that nobody listens on was open to a probe")
		}
	}
}

// TestEventsOfTheNodesProcesses: events say which connections are the node's own. The peer's
// namespace stands for the host's.
func TestEventsOfTheNodesProcesses(t *testing.T) {
	r := newRig(t, mesh.Settings{SkipInboundPorts: []mesh.PortRange{{First: 9100, Last: 9100}}})
	r.d.heart.Stop()
	next := readEvents(t, r)
	for _, fromNode := range []bool{true, false} {
		r.d.hostCookie = r.pod.Cookie()
		if fromNode {
			r.d.hostCookie = r.peer.Cookie()
		}
		if err := r.d.beat(); err != nil {
			t.Fatal(err)
		}
		for _, pod := range []netip.Addr{pod4, pod6} {
			app := listen(t, r.pod, pod, 9100) // nothing else makes the agent pass others by
			client := mustDial(t, r.peer, app.Addr())
			served := accept(t, app)
			opened := next(EventAccept)
			client.Close()
			_, _ = served.Read(make([]byte, 1))
			served.Close()
			for _, e := range []Event{opened, next(EventClose)} {
				if !e.Server || e.FromNode != fromNode || e.Remote != client.Local() {
					t.Errorf("of the node: %v: got %+v, want an event of the server and of %s", fromNode, e, client.Local())
				}
			}
			app.Close()
		}
	}
}

// What is remembered of a connection must not let in another with its ports.
func TestHostFlowsAge(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	app := listen(t, r.pod, pod4, 0)
	for _, c := range []struct {
		age      uint64
		captured bool
	}{{5e9, false}, {11e9, true}} {
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
		key := bpf.UnderlaneFlowKey{
			Client: mapAddress(peer4), ClientPort: rawio.AddrPort(sa).Port(),
			Server: mapAddress(pod4), ServerPort: app.Addr().Port(),
		}
		if err := r.d.objs.HostFlows.Put(&key, &bpf.UnderlaneHostFlow{OpenedNs: monotonicNow() - c.age}); err != nil {
			t.Fatal(err)
		}
		conn, err := rawio.Connect(t.Context(), fd, app.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if c.captured {
			accept(t, r.enrolled.Inbound[0])
		} else {
			accept(t, app)
		}
	}
}

// TestHostFlowEndsWithItsConnection: a client that gets the address and the port of a
// connection of the node's own processes after its end, such as a pod behind SNAT, is not
// taken for the node.
func TestHostFlowEndsWithItsConnection(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	r.d.heart.Stop()
	r.d.hostCookie = r.peer.Cookie()
	if err := r.d.beat(); err != nil {
		t.Fatal(err)
	}
	app := listen(t, r.pod, pod4, 0)
	from := func(port uint16, to netip.AddrPort) (*rawio.Conn, error) {
		fd, err := r.peer.Socket(peer4, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, rawio.Sockaddr(netip.AddrPortFrom(peer4, port))); err != nil {
			t.Fatal(err)
		}
		return rawio.Connect(t.Context(), fd, to)
	}
	flows := func() (n int) {
		var key bpf.UnderlaneFlowKey
		var flow bpf.UnderlaneHostFlow
		for all := r.d.objs.HostFlows.Iterate(); all.Next(&key, &flow); {
			n++
		}
		return n
	}
	for name, end := range map[string]func(ours, theirs *rawio.Conn){
		"reset":      func(ours, _ *rawio.Conn) { _ = ours.Reset(); ours.Close() },
		"peer first": func(ours, theirs *rawio.Conn) { theirs.Close(); _, _ = ours.Read(make([]byte, 1)); ours.Close() },
	} {
		conn, err := from(0, app.Addr())
		if err != nil {
			t.Fatal(err)
		}
		port := conn.Local().Port()
		served := accept(t, app)
		if n := flows(); n != 1 {
			t.Errorf("%s: %d flows while the connection is open, want 1", name, n)
		}
		end(conn, served)
		for range 1000 { // the last ACK is on its way
			if flows() == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		if n := flows(); n != 0 {
			t.Errorf("%s: %d flows after the connection's end, want 0", name, n)
		}
		inCgroup(t, r.options.CgroupRoot, "kubepods/besteffort", func() {
			again, err := from(port, app.Addr())
			if err != nil {
				t.Fatalf("%s: the same port again: %v", name, err)
			}
			defer again.Close()
			accept(t, r.enrolled.Inbound[0])
		})
	}
	if _, err := from(0, netip.AddrPortFrom(pod4, 9)); err == nil {
		t.Error("a port that nobody listens on was open")
	}
	if n := flows(); n != 0 {
		t.Errorf("%d flows after a refused connection, want 0", n)
	}
}
