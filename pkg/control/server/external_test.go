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

// TestExternalAddressOfTwoServices: they share it, each at a port of its own. Who
// asks for it gets both, with their routes, and both go with it.
func TestExternalAddressOfTwoServices(t *testing.T) {
	content := routedContent()
	for _, name := range []string{"web", "other"} {
		for _, s := range content.Services {
			if s.Name == name {
				s.Ports[0].External = []netip.Addr{far}
			}
		}
	}
	snap := NewSnapshot(1, content, nil)
	st, _ := newSyncState(newNumbers(), "n1", &pb.SyncRequest{
		Subscribe: codec.EncodeAddrs([]netip.Addr{far}), Agent: &pb.Agent{Kinds: []string{"route"}},
	})
	d := st.next(snap).message()
	want := []string{
		"workload/uid-a", "workload/uid-b", "workload/uid-d", "service/ns/other", "service/ns/v2", "service/ns/web",
		"route/ns/other/80/HTTPRoute/ns/other-to-web", "route/ns/web/80/HTTPRoute/ns/web-to-v2", "address/192.0.2.1",
	}
	if diff := cmp.Diff(want, names(d)); diff != "" {
		t.Error("-want +got:", diff)
	}
	handle(t, st, ack(d))
	handle(t, st, &pb.SyncRequest{Unsubscribe: codec.EncodeAddrs([]netip.Addr{far})})
	if got := len(st.next(snap).message().GetRemoved()); got != len(want) {
		t.Errorf("%d resources are removed, want %d", got, len(want))
	}
}

// TestAnExternalAddressComesAndGoes while an agent uses it: unknown, a service's,
// and unknown again.
func TestAnExternalAddressComesAndGoes(t *testing.T) {
	c := newController(t)
	b := pod("b", "n2", podB)
	publish := func(external ...netip.Addr) {
		s := serviceOf(b)
		s.Ports[0].External = external
		c.publish([]*mesh.Workload{b}, s)
	}
	publish()
	agent := c.agent("n1")
	agent.untilConnected()
	at := netip.AddrPortFrom(far, 80)
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
}
