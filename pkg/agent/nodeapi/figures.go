package nodeapi

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/wire"
)

// Rememberer is what the agent remembers of the node's traffic.
type Rememberer interface {
	Query(q figures.Query, now time.Time) *figures.Result
}

// Figures implements the rpc.
func (s *Server) Figures(_ context.Context, r *agentv1.FiguresRequest) (*agentv1.FiguresResponse, error) {
	if s.Memory == nil {
		return nil, status.Error(codes.Unimplemented, "this agent remembers no figures")
	}
	now := time.Now()
	q, err := wire.Query(r, s.Node, now)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	out := wire.ToProto(s.Memory.Query(q, now), s.Node, wire.Skew(r, now), now)
	if r.GetPods() && s.Pods != nil {
		for _, w := range s.Pods() {
			out.Pods = append(out.Pods, wire.Pod(w))
		}
	}
	return out, nil
}
