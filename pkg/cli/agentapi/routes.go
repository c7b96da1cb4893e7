package agentapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/expression"
	"github.com/underlane/underlane/pkg/state"
)

// Routes answers q with the routes that the agents have, and what they remember of their
// requests. An agent has the routes of the Services that its pods use.
func (a *API) Routes(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.RouteList, error) {
	now := time.Now()
	answers, _, err := a.remembered(ctx, &q, now, true)
	if err != nil {
		return nil, err
	}
	dumps, errs := each(ctx, a.Agents, func(ctx context.Context, c Client) (*state.Dump, error) {
		r, err := c.Dump(ctx, &agentv1.DumpRequest{})
		if err != nil {
			return nil, err
		}
		return readDump(r.GetJson())
	})
	for i, err := range errs {
		if node := a.Agents[i].Node; err != nil && !slices.Contains(answers.Silent, node) {
			answers.Warnings = append(answers.Warnings, warning(node, fmt.Errorf("its routes are not known: %w", err)))
		}
	}
	return table.MergeRoutes(&q, answers, knownRoutes(dumps), now), nil
}

// readDump reads an agent's state from what `agent dump` prints.
func readDump(text []byte) (*state.Dump, error) {
	var all struct {
		State *state.Dump `json:"state"`
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("read its dump (is it of another version?): %w", err)
	}
	if all.State == nil {
		return nil, fmt.Errorf("its dump has no state: is it of another version?")
	}
	for _, spec := range all.State.Authz {
		spec.Decode(func(checked []byte) (authz.Predicate, error) { return expression.New(checked) })
	}
	return all.State, nil
}

// knownRoutes joins what agents have. Of two states of an object, which agents get at
// different moments, that of the newer dump counts.
func knownRoutes(dumps []*state.Dump) *table.KnownRoutes {
	type name struct{ kind, namespace, name, parentNamespace, parent string }
	routes, services := map[name]*mesh.Route{}, map[name]*mesh.Service{}
	workloads := map[string]*mesh.Workload{}
	known := slices.DeleteFunc(slices.Clone(dumps), func(d *state.Dump) bool { return d == nil })
	slices.SortStableFunc(known, func(a, b *state.Dump) int { return cmp.Compare(a.Upstream, b.Upstream) })
	for _, d := range known {
		for _, w := range d.Workloads {
			workloads[w.UID] = w
		}
		for _, s := range d.Services {
			services[name{namespace: s.Namespace, name: s.Name}] = s
		}
		for _, r := range d.Routes {
			routes[name{r.Kind, r.Namespace, r.Name, r.Parent.Namespace, r.Parent.Name}] = r
		}
	}
	out := &table.KnownRoutes{Routes: slices.Collect(maps.Values(routes)), Services: slices.Collect(maps.Values(services))}
	for _, s := range out.Services {
		for i := range s.Ports {
			for j := range s.Ports[i].Endpoints {
				e := &s.Ports[i].Endpoints[j]
				e.Workload = workloads[e.WorkloadUID]
			}
		}
	}
	return out
}
