package codec

import (
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// EncodeEgressNetwork returns the resource of a network.
func EncodeEgressNetwork(n *mesh.EgressNetwork) *pb.Resource {
	out := &pb.EgressNetwork{Namespace: n.Namespace, Name: n.Name, Global: n.Global, Deny: n.Deny, Unknown: n.Unknown}
	if !n.Created.IsZero() {
		out.Created = timestamppb.New(n.Created)
	}
	for i := range n.Networks {
		r := &n.Networks[i]
		out.Networks = append(out.Networks, &pb.EgressRange{Cidr: encodePrefix(r.CIDR), Except: encodePrefixes(r.Except)})
	}
	return &pb.Resource{Name: state.EgressName(n.Namespace, n.Name), Content: &pb.Resource_EgressNetwork{EgressNetwork: out}}
}

// everywhere are all addresses.
var everywhere = []mesh.EgressRange{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}, {CIDR: netip.MustParsePrefix("::/0")}}

// decodeEgress decodes a network. If the agent does not understand something in it, the
// network refuses all addresses: it may be about any of them.
func decodeEgress(in *pb.EgressNetwork) (*mesh.EgressNetwork, error) {
	if in.GetName() == "" {
		return nil, errors.New("an EgressNetwork without a name")
	}
	out := &mesh.EgressNetwork{Namespace: in.GetNamespace(), Name: in.GetName(), Global: in.GetGlobal(), Deny: in.GetDeny(), Unknown: in.GetUnknown()}
	if in.GetCreated() != nil {
		out.Created = in.GetCreated().AsTime()
	}
	networks, err := decodeEgressRanges(in.GetNetworks())
	if err == nil && hasUnknown(in.ProtoReflect()) {
		err = errors.New(notKnown)
	}
	out.Networks = networks
	if err != nil {
		out.Deny, out.Unknown, out.Networks = true, err.Error(), everywhere
	}
	return out, nil
}

func decodeEgressRanges(all []*pb.EgressRange) ([]mesh.EgressRange, error) {
	d := &authzDecoder{}
	out := each(all, func(r *pb.EgressRange) mesh.EgressRange {
		return mesh.EgressRange{CIDR: d.prefix(r.GetCidr()), Except: each(r.GetExcept(), d.prefix)}
	})
	if d.err != nil {
		return nil, fmt.Errorf("networks: %w", d.err)
	}
	return out, nil
}
