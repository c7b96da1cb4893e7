package codec

import (
	"net/netip"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
)

// EncodePods encodes an agent's report on its node's pods.
func EncodePods(pods []control.PodStatus) []*pb.PodStatus {
	out := make([]*pb.PodStatus, 0, len(pods))
	for _, p := range pods {
		to := &pb.PodStatus{Uid: p.UID, State: p.State, Reason: p.Reason, PreMeshConnections: p.PreMesh, Leaving: p.Leaving}
		for _, addr := range p.Addrs {
			if addr.IsValid() {
				to.Addrs = append(to.Addrs, addr.AsSlice())
			}
		}
		out = append(out, to)
	}
	return out
}

// DecodePods decodes the output of EncodePods. It does not check the texts: they
// may be of any length and may contain characters that are not printable. It leaves
// out what is no address of a pod.
func DecodePods(pods []*pb.PodStatus) []control.PodStatus {
	out := make([]control.PodStatus, 0, len(pods))
	for _, p := range pods {
		var addrs []netip.Addr
		for _, b := range p.GetAddrs() {
			if addr, err := DecodeAddr(b); err == nil && addr.IsGlobalUnicast() {
				addrs = append(addrs, addr)
			}
		}
		out = append(out, control.PodStatus{
			UID: p.GetUid(), State: p.GetState(), Reason: p.GetReason(), PreMesh: p.GetPreMeshConnections(),
			Addrs: control.ByFamily(addrs), Leaving: p.GetLeaving(),
		})
	}
	return out
}
