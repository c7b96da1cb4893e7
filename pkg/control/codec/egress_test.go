package codec

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

func TestEgressNetwork(t *testing.T) {
	prefix := netip.MustParsePrefix
	n := &mesh.EgressNetwork{
		Namespace: "ns", Name: "out", Created: time.Unix(1, 0).UTC(), Global: true, Deny: true, Unknown: "u",
		Networks: []mesh.EgressRange{{CIDR: prefix("0.0.0.0/0"), Except: []netip.Prefix{prefix("10.0.0.0/8")}}, {CIDR: prefix("::/0")}},
	}
	r := EncodeEgressNetwork(n)
	got, skipped, err := DecodeDelta(&pb.Delta{Resources: []*pb.Resource{r}})
	if err != nil || len(skipped) > 0 || len(got.Resources) != 1 {
		t.Fatalf("%v, %v, %+v", err, skipped, got)
	}
	equal := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(n, got.Resources[0].Egress, equal); diff != "" {
		t.Error("(-want +got):", diff)
	}

	// What is not understood refuses everything.
	for name, spoil := range map[string]func(*pb.EgressNetwork){
		"a range":      func(n *pb.EgressNetwork) { n.Networks[0].Cidr.Bits = 200 },
		"an exception": func(n *pb.EgressNetwork) { n.Networks[0].Except[0].Addr = nil },
		"a field": func(n *pb.EgressNetwork) {
			n.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
		},
		"a field within": func(n *pb.EgressNetwork) {
			n.Networks[0].ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
		},
	} {
		r := EncodeEgressNetwork(&mesh.EgressNetwork{Namespace: "ns", Name: "out", Networks: n.Networks})
		spoil(r.GetEgressNetwork())
		got, skipped, err := DecodeDelta(&pb.Delta{Resources: []*pb.Resource{r}})
		if err != nil || len(skipped) > 0 || len(got.Resources) != 1 {
			t.Fatalf("%s: %v, %v, %+v", name, err, skipped, got)
		}
		e := got.Resources[0].Egress
		if !e.Deny || e.Unknown == "" || e.Bits(netip.MustParseAddr("10.1.1.1")) < 0 || e.Bits(netip.MustParseAddr("2001:db8::1")) < 0 {
			t.Errorf("%s: got %+v, want everything refused", name, e)
		}
	}
}

func TestEgressRoute(t *testing.T) {
	r := &mesh.Route{
		Kind: "TLSRoute", Namespace: "ns", Name: "r", Layer: mesh.LayerTLS, Egress: true, Hostnames: []string{"*.example.com"},
		Parent: mesh.ServicePortRef{Namespace: "ns", Name: "out", Port: 443},
		Rules:  []mesh.RouteRule{{Backends: []mesh.RouteBackend{{Original: true, Weight: 1}}}},
	}
	got, skipped, err := DecodeDelta(&pb.Delta{Resources: []*pb.Resource{EncodeRoute(r)}})
	if err != nil || len(skipped) > 0 || len(got.Resources) != 1 {
		t.Fatalf("%v, %v, %+v", err, skipped, got)
	}
	if diff := cmp.Diff(r, got.Resources[0].Route); diff != "" {
		t.Error("(-want +got):", diff)
	}
}
