package fanin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

const (
	// answerTimeout bounds the time until an agent answers on a connection that stands. One
	// that hangs must not keep the answers of the others from the user for long.
	answerTimeout = 2 * time.Second
	// maxResources bounds the answer of one agent to Resources: 4,096 pods.
	maxResources = 4 << 20
	// maxConnections bounds the answer of one agent to Connections: 10,000.
	maxConnections = 16 << 20
)

// ask calls the agents of nodes at once, on connections that are kept. lacks says what an
// agent does not have that does not know the call. The i-th response or error belongs to the
// i-th node. Errors are sentences for users.
func ask[T any](ctx context.Context, a *Agents, kept *Kept, nodes []Node, lacks string, call func(context.Context, *grpc.ClientConn) (*T, error)) ([]*T, []error) {
	now := time.Now()
	responses, errs := make([]*T, len(nodes)), make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			conn, err := kept.conn(a, n, now)
			if err == nil {
				limit := callTimeout
				if conn.GetState() == connectivity.Ready {
					limit = answerTimeout
				}
				ctx, cancel := context.WithTimeout(ctx, limit)
				defer cancel()
				responses[i], err = call(ctx, conn)
			}
			errs[i] = explain(n, lacks, err)
		})
	}
	wg.Wait()
	kept.sweep(now)
	return responses, errs
}

func explain(n Node, lacks string, err error) error {
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.Unimplemented:
		return fmt.Errorf("%s: its agent is of an older version and %s", n.Name, lacks)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: its agent (%s) does not answer in time", n.Name, n.Address)
	}
	return fmt.Errorf("%s: %s", n.Name, why(err))
}

// Resources asks the agents of nodes what their pods use.
func (a *Agents) Resources(ctx context.Context, kept *Kept, nodes []Node) ([]*agentv1.ResourcesResponse, []error) {
	return ask(ctx, a, kept, nodes, "does not say what pods use", func(ctx context.Context, conn *grpc.ClientConn) (*agentv1.ResourcesResponse, error) {
		return agentv1.NewPodResourcesClient(conn).Resources(ctx, &agentv1.ResourcesRequest{}, grpc.MaxCallRecvMsgSize(maxResources))
	})
}

// Connections asks the agents of nodes for their open connections.
func (a *Agents) Connections(ctx context.Context, kept *Kept, nodes []Node, r *agentv1.ConnectionsRequest) ([]*agentv1.ConnectionsResponse, []error) {
	return ask(ctx, a, kept, nodes, "does not list connections", func(ctx context.Context, conn *grpc.ClientConn) (*agentv1.ConnectionsResponse, error) {
		return agentv1.NewOpenConnectionsClient(conn).Connections(ctx, r, grpc.MaxCallRecvMsgSize(maxConnections))
	})
}

// maxJudged bounds the answer of one agent to JudgedCalls: 1,500 of them, and 4,096 pods.
const maxJudged = 4 << 20

// JudgedCalls asks the agents of nodes for what the policies of their pods have judged.
func (a *Agents) JudgedCalls(ctx context.Context, kept *Kept, nodes []Node, r *agentv1.CallsRequest) ([]*agentv1.CallsResponse, []error) {
	return ask(ctx, a, kept, nodes, "does not say what policies have decided", func(ctx context.Context, conn *grpc.ClientConn) (*agentv1.CallsResponse, error) {
		return agentv1.NewAuthorizationClient(conn).Calls(ctx, r, grpc.MaxCallRecvMsgSize(maxJudged))
	})
}

// Decide asks the agents of nodes what they would decide about a call.
func (a *Agents) Decide(ctx context.Context, kept *Kept, nodes []Node, r *agentv1.DecideRequest) ([]*agentv1.DecideResponse, []error) {
	return ask(ctx, a, kept, nodes, "does not say what its policies decide", func(ctx context.Context, conn *grpc.ClientConn) (*agentv1.DecideResponse, error) {
		return agentv1.NewAuthorizationClient(conn).Decide(ctx, r)
	})
}
