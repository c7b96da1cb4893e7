package paths

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/state"
)

// node is a node's kernel, judge and pods.
type node struct {
	store   *state.Store
	kernel  map[redirect.PathKey]redirect.Path
	fails   error // of the kernel
	settled map[netip.AddrPort]destination.Settled
	denied  bool
	cookies map[string]uint64
	direct  int             // connections of the client that are open
	want    map[uint64]bool // pods whose packets are redirected
	flows   []redirect.Flow
}

var (
	client   = &mesh.Workload{UID: "client", Node: "node-1"}
	server   = &mesh.Workload{UID: "server", Node: "node-1"}
	dst      = netip.MustParseAddrPort("10.9.0.1:70")
	endpoint = netip.MustParseAddrPort("10.0.0.2:7000")
	path     = redirect.Path{PathKey: redirect.PathKey{Client: 1, Dst: dst}, Server: 2, Endpoint: endpoint}
)

func newNode(t *testing.T) (*node, *Table) {
	n := &node{
		store:  state.NewStore("node-1"),
		kernel: map[redirect.PathKey]redirect.Path{}, cookies: map[string]uint64{"client": 1, "server": 2},
		settled: map[netip.AddrPort]destination.Settled{dst: {Server: server, Endpoint: endpoint}},
	}
	n.change(t, 1)
	return n, New(Options{Judge: n, Pods: n, State: n.store, Log: slog.New(slog.DiscardHandler)})
}

// change publishes a new view.
func (n *node) change(t *testing.T, version uint64) {
	t.Helper()
	if err := n.store.Apply(state.Delta{Version: version, Synced: true, Resources: []state.Resource{
		{Name: state.WorkloadName("client"), Version: "1", Workload: client},
		{Name: state.WorkloadName("server"), Version: "1", Workload: server},
	}}); err != nil {
		t.Fatal(err)
	}
}

func (n *node) SetPath(p redirect.Path) error {
	if n.fails == nil {
		n.kernel[p.PathKey] = p
	}
	return n.fails
}

func (n *node) DeletePath(k redirect.PathKey) error {
	if n.fails == nil {
		delete(n.kernel, k)
	}
	return n.fails
}

func (n *node) Want(cookies map[uint64]bool) { n.want = cookies }

func (n *node) Paths() ([]redirect.Path, error) {
	return slices.Collect(maps.Values(n.kernel)), n.fails
}

func (n *node) Flows() ([]redirect.Flow, error) { return n.flows, n.fails }

func (n *node) Settled(_ *mesh.Workload, to netip.AddrPort) (destination.Settled, error) {
	s, ok := n.settled[to]
	if !ok {
		return s, errors.New("not settled")
	}
	if n.denied {
		return s, mesh.Fail(mesh.ReasonPolicyDenied, nil)
	}
	return s, nil
}

func (n *node) MayConnect(_, _ *mesh.Workload, _ netip.AddrPort) error {
	if n.denied {
		return mesh.Fail(mesh.ReasonPolicyDenied, nil)
	}
	return nil
}

func (n *node) Cookie(uid string) (uint64, bool) {
	c, ok := n.cookies[uid]
	return c, ok
}

func (n *node) ByCookie(cookie uint64) *mesh.Workload {
	for uid, c := range n.cookies {
		if c == cookie {
			return &mesh.Workload{UID: uid}
		}
	}
	return nil
}

func (n *node) DirectTo(string, netip.AddrPort) (int, error) { return n.direct, nil }

func (n *node) CutDirect(_ string, to netip.AddrPort) (cut int, err error) {
	if to == endpoint {
		cut, n.direct = n.direct, 0
	}
	return cut, nil
}

// play runs a table beside f, which calls wait to let it work.
func play(t *testing.T, f func(n *node, table *Table, wait func(time.Duration))) {
	synctest.Test(t, func(t *testing.T) {
		n, table := newNode(t)
		done := make(chan error, 1)
		stop := make(chan struct{})
		go func() { done <- table.Run(contextOf(t, stop), n, n) }()
		f(n, table, func(d time.Duration) {
			table.sync() // the table has mu whenever it uses n
			time.Sleep(d)
			synctest.Wait()
			table.sync()
		})
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (t *Table) sync() {
	t.mu.Lock()
	defer t.mu.Unlock()
}

func (n *node) check(t *testing.T, when string, want ...redirect.Path) {
	t.Helper()
	if got := slices.Collect(maps.Values(n.kernel)); !slices.Equal(got, want) {
		t.Errorf("%s: the kernel has %v, want %v", when, got, want)
	}
	pods := map[uint64]bool{}
	for _, p := range want {
		pods[p.Client], pods[p.Server] = true, true
	}
	if n.want == nil || !maps.Equal(n.want, pods) {
		t.Errorf("%s: the packets of %v are redirected, want %v", when, n.want, pods)
	}
}

// TestTable: a destination that is used gets its path if it is settled, loses it when it is
// not any more, and gets it again.
func TestTable(t *testing.T) {
	play(t, func(n *node, table *Table, wait func(time.Duration)) {
		other := netip.MustParseAddrPort("10.9.0.2:70")
		table.Used(client, dst)
		table.Used(client, other)
		wait(time.Millisecond)
		n.check(t, "used", path)
		if table.Len() != 1 {
			t.Errorf("got %d paths, want 1", table.Len())
		}
		was := n.settled
		n.settled = nil
		n.change(t, 2)
		wait(time.Millisecond)
		n.check(t, "not settled any more")
		n.settled = was
		n.change(t, 3)
		wait(time.Second)
		n.check(t, "settled again", path)
		moved := n.settled[dst]
		moved.Endpoint = netip.MustParseAddrPort("10.0.0.3:7000")
		n.settled = map[netip.AddrPort]destination.Settled{dst: moved}
		n.change(t, 4)
		wait(time.Second)
		want := path
		want.Endpoint = moved.Endpoint
		n.check(t, "another endpoint", want)
	})
}

// TestTableFails: a destination with several endpoints goes back to the proxy for a while when
// the kernel cannot reach the one that was settled; one with a single endpoint does not.
func TestTableFails(t *testing.T) {
	play(t, func(n *node, table *Table, wait func(time.Duration)) {
		table.Used(client, dst)
		wait(time.Millisecond)
		table.Failed("client", dst)
		table.Failed("other", dst)
		wait(time.Millisecond)
		n.check(t, "failed, with one endpoint", path)
		one := n.settled[dst]
		n.settled = map[netip.AddrPort]destination.Settled{dst: {Server: one.Server, Endpoint: one.Endpoint, Others: true}}
		n.change(t, 2)
		wait(time.Second)
		table.Failed("client", dst)
		wait(time.Millisecond)
		n.check(t, "failed, with several")
		n.change(t, 3)
		wait(time.Second)
		n.check(t, "a change soon after")
		wait(forgetAfter/2 - time.Second)
		table.Used(client, dst)
		wait(time.Millisecond)
		n.check(t, "used again a while later", path)
	})
}

// TestTableCuts: a policy that denies the client ends the connections that are open, also if
// the destination was not settled any more when it came, and also one that was on its way.
func TestTableCuts(t *testing.T) {
	play(t, func(n *node, table *Table, wait func(time.Duration)) {
		table.Used(client, dst)
		wait(time.Millisecond)
		n.direct = 3
		n.settled = nil
		n.change(t, 2)
		wait(30 * time.Second)
		if n.direct != 3 {
			t.Errorf("got %d open connections to what is not settled any more, want 3", n.direct)
		}
		n.denied = true
		n.change(t, 3)
		wait(time.Millisecond)
		if n.direct != 0 || table.Cuts() != 3 {
			t.Errorf("got %d open connections and %d cuts, want 0 and 3", n.direct, table.Cuts())
		}
		n.direct = 1
		wait(again + time.Millisecond)
		if n.direct != 0 || table.Cuts() != 4 {
			t.Errorf("got %d open connections and %d cuts a while later, want 0 and 4", n.direct, table.Cuts())
		}
		wait(2 * sweepEvery)
		if len(table.open) != 0 {
			t.Errorf("got the flows %v, want none: none is open", table.open)
		}
	})
}

// TestTableTakesOver: paths of an earlier agent stay if they are right, and are taken back if
// not: of pods that are not enrolled, of destinations that are not settled.
func TestTableTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, table := newNode(t)
		stranger, gone := path, path
		stranger.Client, gone.Dst = 9, netip.MustParseAddrPort("10.9.0.9:70")
		for _, p := range []redirect.Path{path, stranger, gone} {
			n.kernel[p.PathKey] = p
		}
		stop := make(chan struct{})
		done := make(chan error, 1)
		go func() { done <- table.Run(contextOf(t, stop), n, n) }()
		synctest.Wait()
		table.sync()
		n.check(t, "at the start", path)
		delete(n.cookies, "client")
		table.sync()
		time.Sleep(2*sweepEvery + forgetAfter)
		synctest.Wait()
		table.sync()
		n.check(t, "the pod has left")
		if len(table.entries) != 0 || len(table.ofPod) != 0 {
			t.Errorf("got %d entries of %d pods, want none", len(table.entries), len(table.ofPod))
		}
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestTableRecalls: a policy that denies the client ends connections of an earlier agent, whose
// path is there no more.
func TestTableRecalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, table := newNode(t)
		n.flows = []redirect.Flow{{Client: 1, Server: 2, Endpoint: endpoint}, {Client: 1, Server: 9, Endpoint: endpoint}, {Client: 9, Server: 2, Endpoint: endpoint}}
		n.settled, n.direct, n.denied = nil, 2, true
		stop := make(chan struct{})
		done := make(chan error, 1)
		go func() { done <- table.Run(contextOf(t, stop), n, n) }()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		table.sync()
		if n.direct != 0 || table.Cuts() != 2 {
			t.Errorf("got %d open connections and %d cuts, want 0 and 2", n.direct, table.Cuts())
		}
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestTableWithdraws: a successor that does not know of paths finds none. If it gives the node
// back, they are there again.
func TestTableWithdraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, table := newNode(t)
		table.Withdraw() // before the first Run
		for range 2 {
			stop := make(chan struct{})
			done := make(chan error, 1)
			go func() { done <- table.Run(contextOf(t, stop), n, n) }()
			table.Used(client, dst)
			time.Sleep(time.Millisecond)
			synctest.Wait()
			table.sync()
			n.check(t, "used", path)
			close(stop)
			if err := <-done; err != nil {
				t.Error(err)
			}
			table.Withdraw()
			if len(n.kernel) > 0 || table.Len() > 0 {
				t.Errorf("withdrawn: got %v in the kernel and %d, want none", n.kernel, table.Len())
			}
		}
	})
}

// TestTableIsBounded: a pod does not get more than its part of the table, and what it does not
// use any more makes room.
func TestTableIsBounded(t *testing.T) {
	play(t, func(n *node, table *Table, wait func(time.Duration)) {
		for i := range maxOfPod + 10 {
			table.Used(client, netip.AddrPortFrom(dst.Addr(), uint16(1000+i)))
			wait(time.Microsecond)
		}
		if len(table.entries) != maxOfPod || table.Full() != 10 {
			t.Errorf("got %d entries and %d that were not taken, want %d and 10", len(table.entries), table.Full(), maxOfPod)
		}
		wait(forgetAfter + 2*sweepEvery)
		if len(table.entries) != 0 {
			t.Errorf("got %d entries that are not used, want none", len(table.entries))
		}
		n.fails = errors.New("no room")
		table.Used(client, dst)
		wait(time.Millisecond)
		n.check(t, "the kernel has no room")
		n.fails = nil
		n.change(t, 2)
		wait(time.Second)
		n.check(t, "it has room again", path)
	})
}

// TestTableRestores: a path that another program has deleted is there again after a sweep, and
// a table that is full keeps the paths that it has.
func TestTableRestores(t *testing.T) {
	play(t, func(n *node, table *Table, wait func(time.Duration)) {
		table.Used(client, dst)
		wait(time.Millisecond)
		clear(n.kernel)
		wait(sweepEvery + time.Second)
		n.check(t, "another program has deleted it", path)
		for i := range maxEntries - 1 {
			table.entries[key{"other", netip.AddrPortFrom(endpoint.Addr(), uint16(1+i))}] = &entry{last: time.Now()}
		}
		stranger := path
		stranger.Dst = netip.MustParseAddrPort("10.9.0.9:70")
		n.kernel[stranger.PathKey] = stranger
		wait(sweepEvery)
		n.check(t, "the table is full", path)
	})
}
