package nodeapi

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// Reporter says what the node's pods use.
type Reporter interface {
	Report() *agentv1.ResourcesResponse
}

// podResources implements the service PodResources.
type podResources struct {
	agentv1.UnimplementedPodResourcesServer
	reporter Reporter
}

// Resources implements the rpc.
func (s podResources) Resources(context.Context, *agentv1.ResourcesRequest) (*agentv1.ResourcesResponse, error) {
	if s.reporter == nil {
		return nil, status.Error(codes.Unimplemented, "this agent does not read what pods use")
	}
	return s.reporter.Report(), nil
}
