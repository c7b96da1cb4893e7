package server

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestIngressGetsTheServicesOfAPod: a node with an ingress gets the Services that an address
// belongs to, with their routes, because its requests may name one of them. Other nodes get
// the pod alone.
func TestIngressGetsTheServicesOfAPod(t *testing.T) {
	ask := &pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{podA}), Agent: &pb.Agent{Kinds: []string{"route"}}}
	alone := []string{"workload/uid-a", "workload/uid-gate", "address/" + podA.String()}
	all := []string{
		"workload/uid-a", "workload/uid-b", "workload/uid-gate", "service/ns/v2", "service/ns/web",
		"route/ns/web/80/HTTPRoute/ns/web-to-v2", "address/" + podA.String(),
	}
	for name, c := range map[string]struct {
		meshed, ingress bool
		node            string
		want            []string
	}{
		"an ingress":            {true, true, "n1", all},
		"no ingress":            {true, false, "n1", alone},
		"outside the mesh":      {false, true, "n1", alone},
		"ingress of other node": {true, true, "n2", []string{"workload/uid-a", "address/" + podA.String()}},
	} {
		content := routedContent()
		gate := pod("gate", c.node, netip.MustParseAddr("10.0.9.9"))
		gate.Meshed, gate.Settings = c.meshed, mesh.Settings{Ingress: c.ingress}
		content.Workloads = append(content.Workloads, gate)
		st, err := newSyncState(newNumbers(), "n1", ask)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, names(st.next(NewSnapshot(1, content, nil)).message())); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}
