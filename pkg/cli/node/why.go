package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/whycmd"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/why"
)

// WhyCommand is `agent why`: whether a call of a pod of this node should work, as far as
// this node's agent knows.
func WhyCommand(f *Flags) *cobra.Command {
	return whycmd.Command(&whycmd.Source{Program: "agent", Ask: f.why})
}

// whyTimeout bounds a question, with a connection that is tried.
const whyTimeout = 20 * time.Second

func (f *Flags) why(ctx context.Context, q tapv1alpha1.WhyQuery) (*tapv1alpha1.WhyReport, error) {
	client, done, err := f.dial()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, whyTimeout)
	defer cancel()
	facts, err := f.facts(ctx, client)
	if err != nil {
		return nil, err
	}
	if figures, err := f.figures(ctx, why.Recent(&q)); err != nil {
		facts.RecentErr = err.Error()
	} else {
		facts.Recent = figures
	}
	answer, err := why.Explain(&q, facts)
	if err != nil {
		return nil, err
	}
	if q.Try == "" {
		return answer.WhyReport, nil
	}
	request, err := answer.TryRequest(&q)
	if err != nil {
		answer.NotTried(err)
		return answer.WhyReport, nil
	}
	r, err := client.Try(ctx, request)
	if err != nil {
		answer.NotTried(f.explain(err))
		return answer.WhyReport, nil
	}
	answer.Tried(&q, r)
	return answer.WhyReport, nil
}

// facts collects what this node's agent knows.
func (f *Flags) facts(ctx context.Context, client agentv1.NodeClient) (*why.Facts, error) {
	dumped, err := client.Dump(ctx, &agentv1.DumpRequest{})
	if err != nil {
		return nil, f.explain(err)
	}
	var dump struct{ State state.Dump }
	if err := json.Unmarshal(dumped.GetJson(), &dump); err != nil {
		return nil, fmt.Errorf("the agent's dump: %w", err)
	}
	st, err := client.Status(ctx, &agentv1.StatusRequest{})
	if err != nil {
		return nil, f.explain(err)
	}
	agent := &why.Agent{Status: st}
	if r, err := client.Ejections(ctx, &agentv1.EjectionsRequest{}); err == nil { // an older agent has no such call
		agent.Ejections = r.GetEjections()
	}
	// The dump names the pods of endpoints by their UIDs.
	byUID := make(map[string]*mesh.Workload, len(dump.State.Workloads))
	for _, w := range dump.State.Workloads {
		byUID[w.UID] = w
	}
	for _, s := range dump.State.Services {
		for i := range s.Ports {
			for j := range s.Ports[i].Endpoints {
				e := &s.Ports[i].Endpoints[j]
				e.Workload = byUID[e.WorkloadUID]
			}
		}
	}
	return &why.Facts{
		Workloads: dump.State.Workloads, Services: dump.State.Services, Routes: dump.State.Routes,
		Agents: map[string]*why.Agent{st.GetNode(): agent}, Alone: true,
	}, nil
}
