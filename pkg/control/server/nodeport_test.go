package server

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// TestNodePorts: with the address of a node come the services that have node ports, with
// their routes; with another address they do not.
func TestNodePorts(t *testing.T) {
	content := routedContent()
	content.Services[0].Ports[0].NodePort = 30080
	content.Nodes = []netip.Addr{far}
	for addr, want := range map[netip.Addr][]string{
		far: {
			"workload/uid-a", "workload/uid-b", "service/ns/v2", "service/ns/web",
			"route/ns/web/80/HTTPRoute/ns/web-to-v2", "address/" + far.String(),
		},
		far.Next(): {"address/" + far.Next().String()},
	} {
		st, _ := newSyncState(newNumbers(), "n1", &pb.SyncRequest{
			Subscribe: codec.EncodeAddrs([]netip.Addr{addr}), Agent: &pb.Agent{Kinds: []string{"route"}},
		})
		if diff := cmp.Diff(want, names(st.next(NewSnapshot(1, content, nil)).message())); diff != "" {
			t.Errorf("%s: -want +got:\n%s", addr, diff)
		}
	}
}

// TestNodesComeAndGo while an agent uses the address of one.
func TestNodesComeAndGo(t *testing.T) {
	c := newController(t)
	b := pod("b", "n2", podB)
	svc := serviceOf(b)
	svc.Ports[0].NodePort = 30080
	next := func(nodes ...netip.Addr) *Snapshot {
		c.version++
		return NewSnapshot(c.version, Content{
			Workloads: []*mesh.Workload{b}, Services: []*mesh.Service{svc}, Nodes: nodes, Anchors: c.server.anchors(),
		}, c.server.Snapshot())
	}
	publish := func(nodes ...netip.Addr) { c.server.Publish(next(nodes...)) }
	publish()
	agent := c.agent("n1")
	agent.untilConnected()
	at := netip.AddrPortFrom(far, 30080)
	if svc, _, ok := agent.resolve(far).Service(at); ok {
		t.Fatalf("%s is %s's", at, svc.Name)
	}
	publish(far)
	agent.until("it is a service's", func(v *state.View) bool {
		svc, port, ok := v.Service(at)
		return ok && svc.Name == "web" && len(port.Endpoints) == 1 && port.Endpoints[0].Workload.Name == "b"
	})
	publish()
	agent.until("it is nobody's", func(v *state.View) bool {
		_, _, ok := v.Service(at)
		return !ok && v.Answered(far)
	})
	if last := c.server.Snapshot(); !next().Equal(last) || next(far).Equal(last) {
		t.Error("a snapshot with another node counts as equal, or one with the same does not")
	}
}
