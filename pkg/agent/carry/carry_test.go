package carry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

var (
	podAddr  = netip.MustParseAddr("10.98.0.2")
	peerAddr = netip.MustParseAddr("10.98.0.3")
)

// rig is a Carrier on a node of its own, with one pod and a neighbour of it.
type rig struct {
	*Carrier
	t         *testing.T
	d         *redirect.Datapath
	pod, peer *netns.NS
	workload  *mesh.Workload
	events    sink
	state     *nodeState
	version   int
}

// nodeState is a node's state, as deltas from a controller make it.
type nodeState struct {
	*state.Store
	mu      sync.Mutex
	touched []netip.Addr
}

func (s *nodeState) Subscribe(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched = append(s.touched, addr)
}

// set applies changes to the state; remove are names of resources.
func (r *rig) set(remove []string, changed ...state.Resource) {
	r.t.Helper()
	r.version++
	for i := range changed {
		changed[i].Version = strconv.Itoa(r.version)
	}
	if err := r.state.Apply(state.Delta{Resources: changed, Removed: remove, Synced: true}); err != nil {
		r.t.Fatal(err)
	}
}

type sink struct {
	mu     sync.Mutex
	events []tap.Event
}

func (s *sink) Emit(e *tap.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, *e)
}

func newRig(t *testing.T, h Handler) *rig {
	t.Helper()
	nstest.RequireRoot(t)
	r := &rig{
		t: t, pod: nstest.New(t), peer: nstest.New(t),
		workload: &mesh.Workload{UID: "uid-a", Namespace: "test", Name: "a", Node: "n1", Meshed: true, Addrs: []netip.Addr{podAddr}},
	}
	nstest.Join(t, r.pod, r.peer, []netip.Prefix{netip.PrefixFrom(podAddr, 24)}, []netip.Prefix{netip.PrefixFrom(peerAddr, 24)})
	var err error
	r.d, err = redirect.Load(redirect.Options{CgroupRoot: nstest.Cgroup(t), PinRoot: nstest.BPFFS(t), HeartbeatTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	r.state = &nodeState{Store: state.NewStore("n1")}
	r.Carrier = New(Options{Conns: &listener.Group{Log: slog.New(slog.DiscardHandler)}, Tap: &r.events, State: r.state, Log: slog.New(slog.DiscardHandler)})
	r.Serve(h)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		r.CloseListeners()
		r.drain()
		if err := r.d.Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// drain waits until every connection that was accepted has been served.
func (r *rig) drain() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if cut := r.Conns.Drain(ctx); cut > 0 {
		r.t.Errorf("%d connections did not end", cut)
	}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not after 30 s", what)
		}
	}
}

// enrol enrols the pod and carries its connections.
func (r *rig) enrol() *redirect.Pod {
	r.t.Helper()
	ns, err := netns.Open("/proc/self/fd/" + strconv.Itoa(r.pod.FD()))
	if err != nil {
		r.t.Fatal(err)
	}
	e, err := r.d.Enroll(r.workload, ns)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Carry(r.workload, e)
	return e
}

func (r *rig) retire(e *redirect.Pod) { r.Retire(e, func() { r.d.Withdraw(e.UID) }) }

// dial connects as an application in ns does.
func dial(t *testing.T, ns *netns.NS, dst netip.AddrPort) (*rawio.Conn, error) {
	t.Helper()
	fd, err := ns.Socket(dst.Addr(), 0)
	if err != nil {
		t.Error(err)
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return rawio.Connect(ctx, fd, dst)
}

// handler hands over what it is given, and keeps the connection until release is
// closed, if that is not nil.
type handler struct {
	outbound, inbound atomic.Int64
	began             chan *rawio.Conn // nil: nobody waits for it
	release           chan struct{}
}

func (h *handler) ServeOutbound(c *rawio.Conn, _ *mesh.Workload, _ netip.AddrPort, _ string) func(func(any, []byte)) {
	h.outbound.Add(1)
	h.serve(c)
	return nil
}

func (h *handler) Turns(*mesh.Workload, mesh.Direction) *fairshare.Task { return nil }

func (h *handler) ServeInbound(c *rawio.Conn, _ *mesh.Workload) func(func(any, []byte)) {
	h.inbound.Add(1)
	h.serve(c)
	return nil
}

func (h *handler) serve(c *rawio.Conn) {
	if h.began != nil {
		h.began <- c
	}
	if h.release != nil {
		<-h.release
	}
}

// A connection that is opened while its pod leaves the mesh is served, and one that
// is opened afterwards is not captured.
func TestConnectionsWhileAPodLeaves(t *testing.T) {
	h := new(handler)
	r := newRig(t, h)
	var captured atomic.Int64
	for range 2 {
		e := r.enrol()
		var left atomic.Bool
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				for !left.Load() {
					// Nobody has a route there: only a captured connection opens.
					if c, err := dial(t, r.pod, netip.MustParseAddrPort("192.0.2.1:80")); err == nil {
						captured.Add(1)
						c.Close()
					}
				}
			})
		}
		r.Retire(e, func() {
			// It is being taken out, and the kernel still captures for it.
			for n := captured.Load(); captured.Load() < n+8; {
				runtime.Gosched()
			}
			r.d.Withdraw(e.UID)
		})
		left.Store(true)
		clients.Wait()
		if c, err := dial(t, r.pod, netip.MustParseAddrPort("192.0.2.1:80")); err == nil {
			c.Close()
			t.Fatal("a connection of a pod that has left was captured")
		}
		r.drain() // the listeners end after Linger
	}
	if got, want := h.outbound.Load(), captured.Load(); got != want {
		t.Errorf("%d connections were served, want %d", got, want)
	}
	until(t, "pods without connections are forgotten", func() bool { return len(r.Leaving()) == 0 })
}

// Connections that a pod has live on when it leaves the mesh, and it can be dialled
// in for as long as it has one.
func TestConnectionsOutliveTheMesh(t *testing.T) {
	h := &handler{began: make(chan *rawio.Conn), release: make(chan struct{})}
	r := newRig(t, h)
	network := NewNetwork(r.Carrier)
	e := r.enrol()
	if w := r.ByCookie(e.Cookie()); w != r.workload || !network.Enrolled("uid-a") {
		t.Errorf("enrolled: %v, by its cookie: %v", network.Enrolled("uid-a"), w)
	}
	client, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	<-h.began
	r.retire(e)
	if network.Enrolled("uid-a") || r.ByCookie(e.Cookie()) != nil || len(r.Leaving()) != 1 {
		t.Errorf("enrolled: %v, leaving: %v", network.Enrolled("uid-a"), r.Leaving())
	}
	if _, err := network.Dial(t.Context(), "uid-a", netip.AddrPortFrom(peerAddr, 1)); err == nil {
		t.Error("a connection to a port without a listener")
	} else if _, gone := network.pod("uid-a", errEnded); gone != nil {
		t.Errorf("a pod with connections cannot be dialled in: %v", gone)
	}
	if !client.Idle() {
		t.Error("the connection ended with the pod's enrolment")
	}
	close(h.release)
	r.drain()
	until(t, "a pod without connections is forgotten", func() bool { return len(r.Leaving()) == 0 })
}

// A connection to the agent's own port is no pod's: it is reset and shown.
func TestStray(t *testing.T) {
	h := new(handler)
	r := newRig(t, h)
	e := r.enrol()
	for _, l := range []*rawio.Listener{e.Outbound[0], e.Inbound[0]} {
		c, err := dial(t, r.pod, l.Addr())
		if errors.Is(err, unix.ECONNRESET) {
			continue // the reset was quicker than connect()
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
		c.Close()
	}
	r.retire(e)
	r.drain()
	if h.outbound.Load()+h.inbound.Load() > 0 || len(r.events.events) != 2 {
		t.Fatalf("%d and %d served, events %v, want none and two events", h.outbound.Load(), h.inbound.Load(), r.events.events)
	}
	for i, want := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
		if e := r.events.events[i]; e.Direction != want || e.Reason != mesh.ReasonNoDestination {
			t.Errorf("event %d: %s %s, want %s %s", i, e.Direction, e.Reason, want, mesh.ReasonNoDestination)
		}
	}
}

// When the last connection that a pod had in the mesh has ended, the pooled connections
// from it to endpoints are closed, and those of its neighbours into it are not. The
// reconciler is told, which drops the pod's identity.
func TestPooledConnectionsOfAPodThatHasLeft(t *testing.T) {
	h := &handler{began: make(chan *rawio.Conn), release: make(chan struct{})}
	r := newRig(t, h)
	left := make(chan struct{}, 8)
	r.OnLeft = func() { left <- struct{}{} }
	network := NewNetwork(r.Carrier)
	e := r.enrol()
	to, accepted := r.listenIn(r.peer, peerAddr)
	pooled, err := network.Dial(t.Context(), "uid-a", to)
	if err != nil {
		t.Fatal(err)
	}
	defer pooled.Close()
	atEndpoint := <-accepted
	app, appAccepted := r.listenIn(r.pod, podAddr)
	into, err := network.DialApp(t.Context(), "uid-a", app, netip.AddrPortFrom(peerAddr, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer into.Close()
	<-appAccepted
	client, err := dial(t, r.peer, netip.AddrPortFrom(podAddr, 8080))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	<-h.began
	r.retire(e)
	if cutConn(pooled) || len(left) > 0 {
		t.Error("the pod was forgotten while it had a connection")
	}
	close(h.release)
	<-left
	_ = atEndpoint.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, atEndpoint); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the pooled connection ended with %v, want a reset", err)
	}
	if cutConn(into) {
		t.Error("a connection of another pod into the pod was cut")
	}
	if n := len(r.Leaving()); n > 0 {
		t.Errorf("%d pods are leaving, want none", n)
	}
}
