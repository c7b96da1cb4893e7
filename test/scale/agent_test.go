package scale

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// node is what an agent has of a mesh.
type node struct {
	t        *testing.T
	keeper   *server.Keeper
	stream   *server.Stream
	store    *state.Store
	services []*mesh.Service
	bytes    int // received
}

const (
	localPods = 250
	usedOnes  = 200 // Services that the pods use
	behindOne = 50  // endpoints of each
)

func somePod(i int, node string) *mesh.Workload {
	app := fmt.Sprint("app-", i/behindOne)
	return &mesh.Workload{
		UID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Name: fmt.Sprintf("%s-7c5bf8d6f9-%05d", app, i), Namespace: "shop", ServiceAccount: app,
		Node: node, Zone: "zone-a", OwnerKind: "deployment", OwnerName: app, Labels: mesh.LabelsOf(map[string]string{"app": app, "version": "v1"}),
		Addrs: []netip.Addr{addr("10.1.0.0", i)}, Meshed: true, Enrolled: true, Ready: true,
		Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: app},
	}
}

func someService(i int, pods []*mesh.Workload) *mesh.Service {
	port := mesh.ServicePort{Name: "http", Port: 80}
	for _, p := range pods {
		port.Endpoints = append(port.Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(p.Addrs[0], 8080), WorkloadUID: p.UID, Workload: p, Ready: true})
	}
	return &mesh.Service{Name: fmt.Sprint("app-", i), Namespace: "shop", VIPs: []netip.Addr{addr("10.96.0.0", i)}, Ports: []mesh.ServicePort{port}}
}

// newNode makes an agent of a node with 250 pods, which use 200 Services of 50 endpoints.
func newNode(t *testing.T) *node {
	n := &node{t: t, keeper: server.NewKeeper(), store: state.NewStore("here")}
	var subs []netip.Addr
	var c server.Changes
	pods := 0
	for i := range usedOnes {
		var behind []*mesh.Workload
		for range behindOne {
			behind = append(behind, somePod(pods, fmt.Sprint("node-", pods%500)))
			c.Workloads = append(c.Workloads, mesh.Changed[mesh.Workload]{After: behind[len(behind)-1]})
			pods++
		}
		n.services = append(n.services, someService(i, behind))
		c.Services = append(c.Services, mesh.Changed[mesh.Service]{After: n.services[i]})
		subs = append(subs, n.services[i].VIPs[0])
	}
	for range localPods {
		c.Workloads = append(c.Workloads, mesh.Changed[mesh.Workload]{After: somePod(pods, "here")})
		pods++
	}
	var err error
	n.stream, err = server.NewStream("here", &pb.SyncRequest{Agent: &pb.Agent{Kinds: []string{"route", "ranges", "authz", "egress"}}, Subscribe: codec.EncodeAddrs(subs)})
	if err != nil {
		t.Fatal(err)
	}
	n.apply(c)
	return n
}

// apply takes changes to the agent and returns how long its own part took.
func (n *node) apply(c server.Changes) (took time.Duration) {
	snap := n.keeper.Apply(c)
	for d := n.stream.Next(snap); d != nil; d = n.stream.Next(snap) {
		n.bytes += proto.Size(d)
		start := time.Now()
		delta, _, err := codec.DecodeDelta(d)
		if err == nil {
			err = n.store.Apply(delta)
		}
		took += time.Since(start)
		if err != nil {
			n.t.Fatal(err)
		}
		n.stream.Answered()
	}
	return took
}

func heap() int {
	var m runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestAgentPaysForWhatItUses: 250 pods that use 200 Services of 50 endpoints take less than
// 150 MiB, a pod of the cluster that they do not use less than 0.1 KiB, and a change of one
// endpoint less than a millisecond.
func TestAgentPaysForWhatItUses(t *testing.T) {
	n := newNode(t)
	if got := len(n.store.View().Local()); got != localPods {
		t.Fatalf("%d pods on the node", got)
	}
	// What the agent has without the controller's part of this process.
	alone := state.NewStore("here")
	before := heap()
	whole, err := server.NewStream("here", &pb.SyncRequest{Agent: &pb.Agent{Kinds: []string{"route", "ranges", "authz", "egress"}}, Subscribe: codec.EncodeAddrs(vips(n.services))})
	if err != nil {
		t.Fatal(err)
	}
	snap := n.keeper.Apply(server.Changes{})
	for d := whole.Next(snap); d != nil; d = whole.Next(snap) {
		delta, _, err := codec.DecodeDelta(d)
		if err == nil {
			err = alone.Apply(delta)
		}
		if err != nil {
			t.Fatal(err)
		}
		whole.Answered()
	}
	whole = nil
	size := heap() - before
	t.Logf("%d pods, %d Services of %d endpoints: %.1f MiB, %d bytes received", localPods, usedOnes, behindOne, float64(size)/(1<<20), n.bytes)
	if size > 150<<20 {
		t.Errorf("an agent's state takes %d MiB", size>>20)
	}
	runtime.KeepAlive(alone)

	// Pods and Services that nobody uses here.
	const others = 20_000
	received := n.bytes
	for i := 0; i < others; i += behindOne {
		var c server.Changes
		var behind []*mesh.Workload
		for j := range behindOne {
			behind = append(behind, somePod(100_000+i+j, fmt.Sprint("node-", j)))
			c.Workloads = append(c.Workloads, mesh.Changed[mesh.Workload]{After: behind[j]})
		}
		c.Services = []mesh.Changed[mesh.Service]{{After: someService(10_000+i, behind)}}
		n.apply(c)
	}
	each := float64(n.bytes-received) / others
	t.Logf("%.2f bytes are received for each of %d pods that are not used", each, others)
	if each > 102 {
		t.Error("the agent receives more than 0.1 KiB for each pod that it does not use")
	}
	if got, want := len(n.store.Versions()), len(alone.Versions()); got != want {
		t.Errorf("the agent has %d resources, and had %d before there were other pods", got, want)
	}

	best := time.Hour
	for i := range 20 {
		now := *n.services[7]
		now.Ports = []mesh.ServicePort{now.Ports[0]}
		now.Ports[0].Endpoints = append([]mesh.Endpoint(nil), now.Ports[0].Endpoints...)
		now.Ports[0].Endpoints[3].Ready = i%2 == 1
		best = min(best, n.apply(server.Changes{Services: []mesh.Changed[mesh.Service]{{Before: n.services[7], After: &now}}}))
		n.services[7] = &now
	}
	t.Logf("a change of one endpoint: %s", best)
	if best > 20*time.Millisecond { // a millisecond on a machine 20 times as fast
		t.Errorf("a change of one endpoint takes %s", best)
	}
}

func vips(all []*mesh.Service) (out []netip.Addr) {
	for _, s := range all {
		out = append(out, s.VIPs...)
	}
	return out
}
