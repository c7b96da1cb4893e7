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
	statuses, errs := make([]*agentv1.StatusResponse, len(nodes)), make([]error, len(nodes))
	slots := make(chan struct{}, maxCalls)
	var wg sync.WaitGroup
	for i, n := range nodes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = a.Call(ctx, n, func(ctx context.Context, client agentv1.NodeClient) (err error) {
				statuses[i], err = client.Status(ctx, &agentv1.StatusRequest{})
				return err
			})
		})
	}
	wg.Wait()
	return statuses, errs
}
