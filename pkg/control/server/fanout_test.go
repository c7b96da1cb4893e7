package server

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
)

// town is a mesh of nodes with one pod each, a Service for every five, and streams whose
// agents use two Services.
type town struct {
	*Server
	keeper    *Keeper
	pods      []*mesh.Workload
	services  []*mesh.Service
	streams   []*syncState
	followers []*follower
}

func newTown(t testing.TB, nodes int) *town {
	c := &town{Server: New(Options{}), keeper: NewKeeper()}
	var all Changes
	addr := podA
	for i := range nodes {
		c.pods = append(c.pods, pod(fmt.Sprint("p", i), fmt.Sprint("n", i), addr))
		all.Workloads = append(all.Workloads, mesh.Changed[mesh.Workload]{After: c.pods[i]})
		addr = addr.Next()
	}
	at := vip
	for i := 0; i < nodes; i += 5 {
		s := serviceOf(c.pods[i : i+5]...)
		s.Name, s.VIPs = fmt.Sprint("s", i/5), []netip.Addr{at}
		c.services = append(c.services, s)
		all.Services = append(all.Services, mesh.Changed[mesh.Service]{After: s})
		at = at.Next()
	}
	c.Publish(c.keeper.Apply(all))
	for i := range nodes {
		var subs []netip.Addr
		for j := range 2 {
			subs = append(subs, c.services[(i/5+j)%len(c.services)].VIPs[0])
		}
		st, err := newSyncState(c.Server.streams.numbers, fmt.Sprint("n", i), &pb.SyncRequest{
			Agent:     &pb.Agent{Kinds: []string{control.KindRoute, control.KindRanges, control.KindAuthz, control.KindEgress}},
			Subscribe: codec.EncodeAddrs(subs),
		})
		if err != nil {
			t.Fatal(err)
		}
		c.streams, c.followers = append(c.streams, st), append(c.followers, c.Server.streams.join(st.node))
	}
	return c
}

// flip changes the readiness of a pod.
func (c *town) flip(i int) {
	now := *c.pods[i]
	now.Ready = !now.Ready
	c.Publish(c.keeper.Apply(Changes{Workloads: []mesh.Changed[mesh.Workload]{{Before: c.pods[i], After: &now}}}))
	c.pods[i] = &now
}

// rename changes something else about a pod.
func (c *town) rename(i int) {
	now := *c.pods[i]
	now.Zone += "x"
	c.Publish(c.keeper.Apply(Changes{Workloads: []mesh.Changed[mesh.Workload]{{Before: c.pods[i], After: &now}}}))
	c.pods[i] = &now
}

// shrink removes or adds the last endpoint of a Service.
func (c *town) shrink(i int) {
	now := *c.services[i]
	of := c.pods[5*i : 5*i+4]
	if len(now.Ports[0].Endpoints) == 4 {
		of = c.pods[5*i : 5*i+5]
	}
	now.Ports = serviceOf(of...).Ports
	c.Publish(c.keeper.Apply(Changes{Services: []mesh.Changed[mesh.Service]{{Before: c.services[i], After: &now}}}))
	c.services[i] = &now
}

// drain answers all deltas of a stream and returns what they have.
func (c *town) drain(i int) (all []*delta) {
	for d := c.next(c.streams[i], c.followers[i]); d != nil; d = c.next(c.streams[i], c.followers[i]) {
		all = append(all, d)
		c.streams[i].pending = false
	}
	return all
}

// TestPublishWakesWhatItConcerns: the others are not woken, however many there are.
func TestPublishWakesWhatItConcerns(t *testing.T) {
	c := newTown(t, 400)
	for i := range c.streams {
		c.drain(i)
		select {
		case <-c.followers[i].wake:
		default:
		}
	}
	for _, tc := range []struct {
		what      string
		change    func()
		now, told int // streams that are woken now, and that are told: five nodes use a Service as their first, and five as their second
	}{
		{"a pod", func() { c.rename(7) }, 10, 10},
		{"a pod's readiness", func() { c.flip(7) }, 1, 10},
		{"an endpoint that is gone", func() { c.shrink(1) }, 10, 10},
	} {
		tc.change()
		now, told := 0, 0
		for i := range c.streams {
			woken := len(c.followers[i].wake) > 0
			if woken {
				<-c.followers[i].wake
				now++
			}
			if c.followers[i].concerned() {
				told++
			} else if resources, removed := c.streams[i].diff(c.Snapshot()); woken || len(resources)+len(removed) > 0 {
				t.Errorf("%s: node %d was not told and lacks %d resources, woken %v", tc.what, i, len(resources)+len(removed), woken)
			}
		}
		if now != tc.now || told != tc.told {
			t.Errorf("%s: %d streams were told and %d woken, want %d and %d", tc.what, told, now, tc.told, tc.now)
		}
		for i := range c.streams {
			c.drain(i)
		}
	}
}

// TestWhatAllHaveIsNarrow: ranges and trust anchors go to all agents, and a node that comes
// concerns those that use its address; none of them looks for more.
func TestWhatAllHaveIsNarrow(t *testing.T) {
	c := newTown(t, 50)
	c.Publish(c.keeper.Apply(Changes{Anchors: [][]byte{{1}}}))
	for i := range c.streams {
		c.drain(i)
	}
	node := netip.MustParseAddr("172.16.0.9")
	if _, err := c.streams[3].handle(&pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{node})}); err != nil {
		t.Fatal(err)
	}
	c.drain(3)
	expect := func(what string, gets, looks int, change Changes) {
		t.Helper()
		c.Publish(c.keeper.Apply(change))
		got, looked := 0, 0
		for i, s := range c.streams {
			before := s.looks
			for _, d := range c.drain(i) {
				if got++; len(d.resources) != 1 || len(d.removed) > 0 {
					t.Errorf("%s: node %d gets %d resources and loses %d", what, i, len(d.resources), len(d.removed))
				}
			}
			looked += int(s.looks - before)
			if resources, removed := s.diff(c.Snapshot()); len(resources)+len(removed) > 0 {
				t.Errorf("%s: node %d lacks %d resources", what, i, len(resources)+len(removed))
			}
		}
		if got != gets || looked != looks {
			t.Errorf("%s: %d agents get something and %d looked for more, want %d and %d", what, got, looked, gets, looks)
		}
	}
	expect("another anchor", 50, 0, Changes{Anchors: [][]byte{{1}, {2}}})
	elsewhere := pod("elsewhere", "far", netip.MustParseAddr("10.250.0.1"))
	expect("a new range", 50, 0, Changes{Workloads: []mesh.Changed[mesh.Workload]{{After: elsewhere}}})
	expect("a node", 1, 1, Changes{Nodes: []netip.Addr{node}, NodesSet: true})
	expect("another node", 0, 0, Changes{Nodes: []netip.Addr{node, node.Next()}, NodesSet: true})
	expect("the node is gone", 1, 1, Changes{NodesSet: true})
}

// TestSlowAgentsCostNothing: what is published while an agent does not answer is kept once,
// and what it gets then is the newest alone.
func TestSlowAgentsCostNothing(t *testing.T) {
	c := newTown(t, 50)
	for i := range c.streams {
		c.drain(i)
	}
	c.flip(7)
	if d := c.next(c.streams[7], c.followers[7]); d == nil {
		t.Fatal("the pod's own node gets no delta")
	}
	for range 10 * mostRecent { // more than the snapshots remember
		c.flip(7)
		c.flip(8)
	}
	c.flip(8) // the other changes have undone each other
	if allocs := testing.AllocsPerRun(10, func() {
		if c.next(c.streams[7], c.followers[7]) != nil {
			t.Fatal("a delta before the answer")
		}
	}); allocs > 0 {
		t.Errorf("%v allocations for an agent that has not answered", allocs)
	}
	c.streams[7].pending = false
	if deltas := c.drain(7); len(deltas) != 1 {
		t.Errorf("%d deltas after %d publications, want one", len(deltas), 20*mostRecent)
	}
	if resources, removed := c.streams[7].diff(c.Snapshot()); len(resources)+len(removed) > 0 {
		t.Errorf("it lacks %v, and has %v too much", resources, removed)
	}
}

// TestNoChangeIsLost: streams that look while others publish have everything in the end.
func TestNoChangeIsLost(t *testing.T) {
	c := newTown(t, 20)
	done := make(chan struct{})
	var vips [][]netip.Addr
	for _, s := range c.services {
		vips = append(vips, s.VIPs)
	}
	var streams sync.WaitGroup
	for i := range c.streams {
		streams.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(i), 3))
			st := c.streams[i]
			for {
				c.drain(i)
				select {
				case <-c.followers[i].wake:
				case <-done:
					c.drain(i)
					return
				}
				if dice.IntN(4) == 0 { // it uses another Service, or one no more
					req := &pb.SyncRequest{Subscribe: codec.EncodeAddrs(vips[dice.IntN(len(vips))])}
					if dice.IntN(2) == 0 {
						req.Subscribe, req.Unsubscribe = nil, req.Subscribe
					}
					if _, err := st.handle(req); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	dice := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		if dice.IntN(2) == 0 {
			c.flip(dice.IntN(len(c.pods)))
		} else {
			c.shrink(dice.IntN(len(c.services)))
		}
		if dice.IntN(64) == 0 {
			time.Sleep(time.Microsecond)
		}
	}
	close(done)
	streams.Wait()
	for i, st := range c.streams {
		if resources, removed := st.diff(c.Snapshot()); len(resources)+len(removed) > 0 {
			t.Errorf("node %d lacks %v, and has %v too much", i, resources, removed)
		}
		c.Server.streams.leave(c.followers[i], st)
	}
	o, has := c.Server.streams, 0
	for i := range o.has {
		if !o.has[i].empty() {
			has++
		}
	}
	if n := o.numbers; len(o.streams)-len(o.free)+len(o.nodes)+has+len(n.of)+len(n.all)-len(n.free)+len(o.asks) > 0 {
		t.Errorf("streams that have ended leave %d, %d, %d, %d, %d, %d entries", len(o.streams)-len(o.free), len(o.nodes), has, len(n.of), len(n.all)-len(n.free), len(o.asks))
	}
}

// TestEndAfterARequest: a stream that ends after a request, before it is served, leaves nothing
// behind, and the next one with its number is not taken for it.
func TestEndAfterARequest(t *testing.T) {
	c := newTown(t, 5)
	addr := netip.MustParseAddr("172.16.0.9")
	ask := func(r *pb.SyncRequest) {
		t.Helper()
		if _, err := c.streams[3].handle(r); err != nil {
			t.Fatal(err)
		}
	}
	ask(&pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{addr})})
	c.drain(3)
	if _, asked := c.Server.streams.asks[addr]; !asked {
		t.Fatal("the subscription is not entered, want it to be")
	}
	ask(&pb.SyncRequest{Unsubscribe: codec.EncodeAddrs([]netip.Addr{addr})})
	c.Server.streams.leave(c.followers[3], c.streams[3])
	change := func(nodes ...netip.Addr) { c.Publish(c.keeper.Apply(Changes{Nodes: nodes, NodesSet: true})) }
	change(addr) // nobody has the number now
	other := c.Server.streams.join("another")
	if other.id != c.followers[3].id {
		t.Errorf("the next stream has number %d, want %d again", other.id, c.followers[3].id)
	}
	change()
	if other.concerned() {
		t.Error("the next stream is told what concerns the one before")
	}
}

// TestEncodedOnce: a delta refers to the bytes of the snapshot, and reads as protobuf.
func TestEncodedOnce(t *testing.T) {
	var pods []*mesh.Workload
	addr := podA
	for range 400 {
		pods = append(pods, pod("p"+addr.String(), "n1", addr))
		addr = addr.Next()
	}
	want := codec.EncodeService(serviceOf(pods...))
	r := newResource(codec.EncodeService(serviceOf(pods...)))
	want.Version = versionText.EncodeToString(r.version[:])
	d := &delta{nonce: 3, version: 4, resources: []*resource{r}, removed: []string{"a", "b"}, initialSyncDone: true}
	got := d.message()
	if diff := cmp.Diff(&pb.Delta{Nonce: 3, Version: 4, Resources: []*pb.Resource{want}, Removed: []string{"a", "b"}, InitialSyncDone: true}, got, protocmp.Transform()); diff != "" {
		t.Error("-want +got:", diff)
	}
	out, err := newDeltaCodec().Marshal(d)
	if err != nil || &out[1].ReadOnlyData()[0] != &r.wire[0] {
		t.Error("the bytes of a large resource are copied for each agent", err)
	}
	if _, err := newDeltaCodec().Marshal(&pb.Delta{}); err != nil {
		t.Error(err)
	}
	if b, err := proto.Marshal(want); err != nil || len(r.wire) > len(b)+5 {
		t.Errorf("%d bytes instead of %d, %v", len(r.wire), len(b), err)
	}
}

// TestChangesComeBeforeNews: of what takes several deltas, the services that the agent has come
// first, with the workloads behind them.
func TestChangesComeBeforeNews(t *testing.T) {
	var pods []*mesh.Workload
	addr := netip.MustParseAddr("10.2.0.1")
	for range 10_000 {
		pods = append(pods, pod("z"+addr.String(), "n2", addr))
		addr = addr.Next()
	}
	a, b := pod("a", "n1", podA), pod("zz", "n1", podB)
	web := serviceOf(a, b)
	many := serviceOf(pods...)
	many.Name, many.VIPs = "many", []netip.Addr{far}
	st, _ := newSyncState(newNumbers(), "n3", &pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{vip}), Agent: &pb.Agent{Kinds: []string{control.KindAuthz}}})
	first := NewSnapshot(1, Content{Workloads: []*mesh.Workload{a, b}, Services: []*mesh.Service{web}}, nil)
	handle(t, st, ack(st.next(first).message()))
	// One of its endpoints is replaced while the agent begins to use a large Service.
	c := pod("zzz", "n1", podC)
	snap := NewSnapshot(2, Content{Workloads: append(pods, a, c), Services: []*mesh.Service{serviceOf(a, c), many}}, first)
	handle(t, st, &pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{far})})
	d := st.next(snap).message()
	if got := names(d); d.InitialSyncDone || got[0] != "workload/uid-zzz" || got[1] != "service/ns/web" {
		t.Errorf("all at once: %v; first %v", d.InitialSyncDone, got[:3])
	}
}
