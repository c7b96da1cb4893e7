package agentapi

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/judged"
	"github.com/underlane/underlane/pkg/state"
)

// JudgedCalls asks the agents for what the policies of their pods have judged. An agent that
// does not answer is in the warnings; the error is that none has answered.
func (a *API) JudgedCalls(ctx context.Context, namespace, target string, window time.Duration) ([]*agentv1.CallsResponse, tapv1alpha1.Nodes, []string, error) {
	nodes, warnings := tapv1alpha1.Nodes{Asked: len(a.Agents)}, []string{}
	r := &agentv1.CallsRequest{Target: target, Namespace: namespace, Window: durationpb.New(window)}
	answers, errs := each(ctx, a.Agents, func(ctx context.Context, c Client) (*agentv1.CallsResponse, error) { return c.Calls(ctx, r) })
	var heard []*agentv1.CallsResponse
	var silent error
	for i, err := range errs {
		if err != nil {
			silent = err
			warnings = append(warnings, warning(a.Agents[i].Node, err))
			continue
		}
		heard = append(heard, answers[i])
	}
	if nodes.Answered = len(heard); len(heard) == 0 && silent != nil {
		return nil, nodes, nil, silent
	}
	return heard, nodes, warnings, nil
}

// Authz answers q with what the policies of the agents' pods have decided.
func (a *API) Authz(ctx context.Context, q tapv1alpha1.AuthzQuery) (*tapv1alpha1.AuthzList, error) {
	q, err := tapv1alpha1.ParseAuthz(q.Values())
	if err != nil {
		return nil, &badRequest{err}
	}
	answers, nodes, warnings, err := a.JudgedCalls(ctx, q.Namespace, q.Target(), q.Window)
	if err != nil {
		return nil, err
	}
	return judged.List(answers, nodes, warnings), nil
}

// AccessAuthz answers who may connect to the workloads of a namespace. Each agent knows the
// policies of its node's pods.
func (a *API) AccessAuthz(ctx context.Context, namespace string) (*tapv1alpha1.AuthzAccess, error) {
	dumps, errs := a.dumps(ctx)
	m := &judged.AccessMesh{By: "the agents, with the policies that are in force there"}
	if len(a.Agents) == 1 {
		m.By = "the agent, with the policies that are in force there"
	}
	have, seen := map[string]*authz.Spec{}, map[string]bool{}
	warnings := []string{}
	var silent error
	for i, d := range dumps {
		if errs[i] != nil {
			silent = errs[i]
			warnings = append(warnings, warning(a.Agents[i].Node, errs[i]))
			continue
		}
		for _, w := range d.Workloads {
			if spec := d.Authz[w.UID]; spec != nil {
				have[w.UID] = spec
			}
			if !seen[w.UID] {
				seen[w.UID] = true
				m.Workloads = append(m.Workloads, w)
			}
		}
		m.Services = append(m.Services, d.Services...)
	}
	if len(m.Workloads) == 0 && silent != nil {
		return nil, silent
	}
	m.Spec = func(w *mesh.Workload) (*authz.Spec, bool) {
		spec := have[w.UID]
		return spec, spec != nil || !w.Authorized
	}
	out := judged.Access(namespace, m)
	out.Warnings = append(out.Warnings, warnings...)
	out.Notes = append(out.Notes, "agents know the workloads of their nodes and what these call: others are not among the clients. What they may call outside is not known here")
	return out, nil
}

// dumps asks the agents for their state.
func (a *API) dumps(ctx context.Context) ([]*state.Dump, []error) {
	return each(ctx, a.Agents, func(ctx context.Context, c Client) (*state.Dump, error) {
		r, err := c.Dump(ctx, &agentv1.DumpRequest{})
		if err != nil {
			return nil, err
		}
		return readDump(r.GetJson())
	})
}

// ExplainAuthz answers what decides about a call. Agents know the pods of their nodes and what
// these use.
func (a *API) ExplainAuthz(ctx context.Context, q tapv1alpha1.AuthzExplainQuery) (*tapv1alpha1.AuthzExplanation, error) {
	dumps, errs := a.dumps(ctx)
	known := &judged.Mesh{}
	byUID := map[string]*mesh.Workload{}
	for i, d := range dumps {
		if errs[i] != nil {
			continue
		}
		for _, w := range d.Workloads {
			if byUID[w.UID] == nil {
				byUID[w.UID] = w
				known.Workloads = append(known.Workloads, w)
			}
		}
		known.Services = append(known.Services, d.Services...)
	}
	if len(known.Workloads) == 0 {
		for _, err := range errs {
			if err != nil {
				return nil, err
			}
		}
	}
	for _, s := range known.Services {
		for i := range s.Ports {
			for j := range s.Ports[i].Endpoints {
				e := &s.Ports[i].Endpoints[j]
				e.Workload = byUID[e.WorkloadUID]
			}
		}
	}
	known.Decide = func(server *mesh.Workload, r *agentv1.DecideRequest) (*agentv1.DecideResponse, string, error) {
		answers, errs := each(ctx, a.Agents, func(ctx context.Context, c Client) (*agentv1.DecideResponse, error) { return c.Decide(ctx, r) })
		for i, answer := range answers {
			if errs[i] == nil && answer.GetKnown() {
				return answer, fmt.Sprintf("the agent of %s, with the policies that are in force there", answer.GetNode()), nil
			}
		}
		for _, err := range errs {
			if err != nil {
				return nil, "", err
			}
		}
		return nil, "", fmt.Errorf("pod %s/%s is of node %s, whose agent was not asked", server.Namespace, server.Name, cmp.Or(server.Node, "(none)"))
	}
	return judged.Explain(&q, known)
}
