package nodeapi

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// Lister lists the open connections of the node's pods. Its errors are those of ctx, and of
// requests that are not valid.
type Lister interface {
	List(ctx context.Context, r *agentv1.ConnectionsRequest) (*agentv1.ConnectionsResponse, error)
}

// openConnections implements the service OpenConnections.
type openConnections struct {
	agentv1.UnimplementedOpenConnectionsServer
	lister Lister
}

// Connections implements the rpc.
func (s openConnections) Connections(ctx context.Context, r *agentv1.ConnectionsRequest) (*agentv1.ConnectionsResponse, error) {
	if s.lister == nil {
		return nil, status.Error(codes.Unimplemented, "this agent does not list connections")
	}
	out, err := s.lister.List(ctx, r)
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	return nil, status.Error(codes.InvalidArgument, err.Error())
}
