package nodeapi

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// Dialer makes connections in the name of pods (pkg/agent/try).
type Dialer interface {
	Try(ctx context.Context, r *agentv1.TryRequest) (*agentv1.TryResponse, error)
}

// Try implements the rpc.
func (s *Server) Try(ctx context.Context, r *agentv1.TryRequest) (*agentv1.TryResponse, error) {
	if s.Dialer == nil {
		return nil, status.Error(codes.Unimplemented, "this agent makes no connections for pods")
	}
	return s.Dialer.Try(ctx, r)
}

// Ejections implements the rpc.
func (s *Server) Ejections(context.Context, *agentv1.EjectionsRequest) (*agentv1.EjectionsResponse, error) {
	if s.Ejected == nil {
		return nil, status.Error(codes.Unimplemented, "this agent does not tell which endpoints it avoids")
	}
	return &agentv1.EjectionsResponse{Ejections: s.Ejected()}, nil
}
