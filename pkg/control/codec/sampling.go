package codec

import (
	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
)

func encodeSampling(s *mesh.TraceSampling) *pb.TraceSampling {
	if s == nil {
		return nil
	}
	return &pb.TraceSampling{Off: s.Off, PerMillion: s.PerMillion}
}

func decodeSampling(s *pb.TraceSampling) *mesh.TraceSampling {
	if s == nil {
		return nil
	}
	return &mesh.TraceSampling{Off: s.GetOff(), PerMillion: s.GetPerMillion()}
}
