package fanin

import (
	"context"
	"sync"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// maxCalls bounds the concurrent calls for one answer.
const maxCalls = 64

// Statuses gets the status of each node's agent. The i-th status or error belongs
// to the i-th node.
func (a *Agents) Statuses(ctx context.Context, nodes []Node) ([]*agentv1.StatusResponse, []error) {
	return each(ctx, a, nodes, func(ctx context.Context, client agentv1.NodeClient) (*agentv1.StatusResponse, error) {
		return client.Status(ctx, &agentv1.StatusRequest{})
	})
}

// Costs gets what pods cost each node's agent. The i-th answer or error belongs to the i-th
// node.
func (a *Agents) Costs(ctx context.Context, nodes []Node) ([]*agentv1.CostsResponse, []error) {
	return each(ctx, a, nodes, func(ctx context.Context, client agentv1.NodeClient) (*agentv1.CostsResponse, error) {
		return client.Costs(ctx, &agentv1.CostsRequest{})
	})
}

// each makes a call to each node's agent, a limited number at a time.
func each[T any](ctx context.Context, a *Agents, nodes []Node, call func(context.Context, agentv1.NodeClient) (*T, error)) ([]*T, []error) {
	answers, errs := make([]*T, len(nodes)), make([]error, len(nodes))
	slots := make(chan struct{}, maxCalls)
	var wg sync.WaitGroup
	for i, n := range nodes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = a.Call(ctx, n, func(ctx context.Context, client agentv1.NodeClient) (err error) {
				answers[i], err = call(ctx, client)
				return err
			})
		})
	}
	wg.Wait()
	return answers, errs
}
