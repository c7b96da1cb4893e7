package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestWhoGetsEgressNetworks: the agents of nodes with meshed pods that are subject to them,
// before these pods.
func TestWhoGetsEgressNetworks(t *testing.T) {
	a, b := pod("a", "n1", podA), pod("b", "n2", podB)
	a.Namespace, a.Meshed, b.Meshed = "shop", true, true
	route := &mesh.Route{
		Kind: "TLSRoute", Namespace: "shop", Name: "r", Layer: mesh.LayerTLS, Egress: true,
		Parent: mesh.ServicePortRef{Namespace: "shop", Name: "local"},
		Rules:  []mesh.RouteRule{{Backends: []mesh.RouteBackend{{Original: true, Weight: 1}}}},
	}
	snap := NewSnapshot(1, Content{
		Workloads: []*mesh.Workload{a, b},
		Egress: []*mesh.EgressNetwork{
			{Namespace: "shop", Name: "local"}, {Namespace: "linkerd-egress", Name: "all", Global: true}, {Namespace: "elsewhere", Name: "other"},
		},
		Routes: []*mesh.Route{route},
	}, nil)
	const networkRoute = "egressroute/shop/local/0/TLSRoute/shop/r"
	for name, tc := range map[string]struct {
		node  string
		kinds []string
		want  []string
	}{
		"a pod of the namespace": {"n1", []string{control.KindEgress, control.KindRoute}, []string{"egress/linkerd-egress/all", "egress/shop/local", "workload/uid-a", networkRoute}},
		"another namespace":      {"n2", []string{control.KindEgress, control.KindRoute}, []string{"egress/linkerd-egress/all", "workload/uid-b"}},
		"no pod":                 {"n3", []string{control.KindEgress, control.KindRoute}, nil},
		"an older agent":         {"n1", []string{control.KindRoute}, []string{"workload/uid-a"}},
	} {
		st, err := newSyncState(newNumbers(), tc.node, &pb.SyncRequest{Agent: &pb.Agent{Kinds: tc.kinds}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, names(st.next(snap).message())); diff != "" {
			t.Errorf("%s: -want +got: %s", name, diff)
		}
	}
}
