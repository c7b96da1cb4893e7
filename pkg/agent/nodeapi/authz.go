package nodeapi

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/policy/judged"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Decider decides calls that are not made.
type Decider interface {
	Decide(ctx context.Context, r *agentv1.DecideRequest) *agentv1.DecideResponse
}

// Authorization is what the service Authorization answers with.
type Authorization struct {
	Decider Decider
	Calls   interface {
		List(window time.Duration, match func(*mesh.Workload) bool) calls.List
	}
	Rules func(uid string) *authz.Workload // of a pod of the node
}

// authorization implements the service.
type authorization struct {
	agentv1.UnimplementedAuthorizationServer
	*Server
}

// defaultCallsWindow is that of a request without one.
const defaultCallsWindow = time.Minute

// Calls implements the rpc.
func (s authorization) Calls(_ context.Context, r *agentv1.CallsRequest) (*agentv1.CallsResponse, error) {
	if s.Authorization.Calls == nil {
		return nil, status.Error(codes.Unimplemented, "this agent does not remember what policies have judged")
	}
	target, err := filter.ParseResource(r.GetTarget(), r.GetNamespace())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	window := defaultCallsWindow
	if r.GetWindow() != nil {
		window = r.GetWindow().AsDuration()
	}
	list := s.Authorization.Calls.List(window, target.Matches)
	var pods []*mesh.Workload
	if s.Pods != nil {
		for _, w := range s.Pods() {
			if w.Authorized && target.Matches(w) {
				pods = append(pods, w)
			}
		}
	}
	return judged.Calls(s.Node, &list, s.Rules, pods), nil
}

// Decide implements the rpc.
func (s authorization) Decide(ctx context.Context, r *agentv1.DecideRequest) (*agentv1.DecideResponse, error) {
	if s.Decider == nil {
		return nil, status.Error(codes.Unimplemented, "this agent does not decide calls that are not made")
	}
	return s.Decider.Decide(ctx, r), nil
}
