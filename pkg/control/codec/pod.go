package codec

import (
	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
)

// EncodePods encodes an agent's report on its node's pods.
func EncodePods(pods []control.PodStatus) []*pb.PodStatus {
	out := make([]*pb.PodStatus, 0, len(pods))
	for _, p := range pods {
		out = append(out, &pb.PodStatus{Uid: p.UID, State: p.State, Reason: p.Reason, PreMeshConnections: p.PreMesh})
	}
	return out
}

// DecodePods decodes the output of EncodePods. It does not check the texts: they
// may be of any length and may contain characters that are not printable.
func DecodePods(pods []*pb.PodStatus) []control.PodStatus {
	out := make([]control.PodStatus, 0, len(pods))
	for _, p := range pods {
		out = append(out, control.PodStatus{UID: p.GetUid(), State: p.GetState(), Reason: p.GetReason(), PreMesh: p.GetPreMeshConnections()})
	}
	return out
}
