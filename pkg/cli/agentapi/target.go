package agentapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// UnknownError says that no agent knows a pod of a resource. The agents of a whole mesh know
// all pods. That of one node does not: a pod may begin to call those of another node.
type UnknownError struct{ text string }

// Error implements error.
func (e *UnknownError) Error() string { return e.text }

// CheckTarget returns an error for users if a tap would wait for ever, because its resources
// are not valid, or because no agent knows a pod of one that is named (an *UnknownError). Agents know the pods
// of their nodes, and those that these use; they do not know all Services. Without an answer
// of all agents a name is not judged.
func (a *API) CheckTarget(ctx context.Context, r *agentv1.TapRequest) error {
	var named []filter.Resource
	for _, end := range [][2]string{{r.GetTarget(), r.GetNamespace()}, {r.GetTo(), r.GetToNamespace()}} {
		resource, err := filter.ParseResource(end[0], end[1])
		if err != nil {
			return err
		}
		if resource.Name != "" && resource.Kind != filter.KindService && resource.Kind != filter.KindNamespace {
			named = append(named, resource)
		}
	}
	if len(named) == 0 {
		return nil
	}
	dumps, errs := each(ctx, a.Agents, func(ctx context.Context, c Client) (*state.Dump, error) {
		r, err := c.Dump(ctx, &agentv1.DumpRequest{})
		if err != nil {
			return nil, err
		}
		return readDump(r.GetJson())
	})
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		return nil
	}
	for _, resource := range named {
		if !slices.ContainsFunc(dumps, func(d *state.Dump) bool {
			return slices.ContainsFunc(d.Workloads, func(w *mesh.Workload) bool { return resource.Matches(w) })
		}) {
			return &UnknownError{fmt.Sprintf("no agent that was asked knows a pod of %s in namespace %s: agents know the pods of their nodes, and what these have used in the last ten minutes",
				resource, cmp.Or(resource.Namespace, "(any)"))}
		}
	}
	return nil
}
