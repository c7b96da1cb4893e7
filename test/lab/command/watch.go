package command

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/agentapi"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/dashcmd"
	"github.com/underlane/underlane/pkg/cli/statcmd"
	"github.com/underlane/underlane/pkg/cli/tapcmd"
	"github.com/underlane/underlane/pkg/dashboard"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/test/lab/api"
)

// watching are the commands that ask the agents of all nodes: stat, edges, routes, egress, tap
// and dashboard. In a cluster the controller asks them.
func (a *app) watching() []*cobra.Command {
	figures := &statcmd.Source{
		Program: "lab", Scope: "all nodes",
		Figures: func(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
			agents, done, err := a.agents(ctx)
			if err != nil {
				return nil, err
			}
			defer done()
			return agents.Figures(ctx, q)
		},
		Resources: func(ctx context.Context, q tapv1alpha1.ResourcesQuery) (*tapv1alpha1.ResourceList, error) {
			agents, done, err := a.agents(ctx)
			if err != nil {
				return nil, err
			}
			defer done()
			return agents.Resources(ctx, q)
		},
		Routes: func(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.RouteList, error) {
			agents, done, err := a.agents(ctx)
			if err != nil {
				return nil, err
			}
			defer done()
			return agents.Routes(ctx, q)
		},
	}
	events := &tapcmd.Source{Program: "lab", Scope: "all nodes", Open: a.openTap, Explain: func(err error) error { return err }}
	page := &dashcmd.Source{
		Program: "lab", Scope: "all nodes",
		Open: func(ctx context.Context) (dashboard.Config, func(), error) {
			s, err := a.state(ctx)
			if err != nil {
				return dashboard.Config{}, nil, err
			}
			agents, done, err := a.agents(ctx)
			if err != nil {
				return dashboard.Config{}, nil, err
			}
			about := dashboard.About{Where: "the lab " + a.name, Command: "bin/lab", Scope: "lab"}
			return dashboard.Config{API: check.Mount(a.checkAPI(s.Nodes), agents.Handler()), About: about}, done, nil
		},
	}
	return []*cobra.Command{
		statcmd.Stat(figures), statcmd.Edges(figures), statcmd.Routes(figures), statcmd.Egress(figures), tapcmd.Tap(events), dashcmd.Dashboard(page), a.authz(),
	}
}

// agents returns the agents of all nodes. Their sockets are in the file system, so that
// the nodes' network namespaces do not matter.
func (a *app) agents(ctx context.Context) (*agentapi.API, func(), error) {
	s, err := a.state(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !s.Options.Mesh {
		return nil, nil, fmt.Errorf("lab %q has no agents: it was brought up with --no-mesh", a.name)
	}
	out, done, err := dialAll(s.Nodes)
	if err == nil {
		out.Pods = func(node string) []*mesh.Workload { return podsOf(s.Pods, node) }
	}
	return out, done, err
}

// podsOf returns the pods of a node as the lab knows them.
func podsOf(pods []api.Pod, node string) (out []*mesh.Workload) {
	for _, p := range pods {
		if p.Node != node {
			continue
		}
		w := &mesh.Workload{
			UID: p.UID, Namespace: p.Namespace, Name: p.Name, Node: p.Node, OwnerKind: "pod", OwnerName: p.Name,
			Meshed: p.Meshed, Ready: p.Ready, Labels: mesh.LabelsOf(p.Labels),
		}
		if p.Deployment != "" {
			w.OwnerKind, w.OwnerName = "deployment", p.Deployment
		}
		out = append(out, w)
	}
	return out
}

func dialAll(nodes []api.Node) (*agentapi.API, func(), error) {
	out := &agentapi.API{}
	var closers []func()
	done := func() {
		for _, c := range closers {
			c()
		}
	}
	for _, n := range nodes {
		client, c, err := agentapi.Dial(n.Socket)
		if err != nil {
			done()
			return nil, nil, err
		}
		closers = append(closers, c)
		out.Agents = append(out.Agents, agentapi.Agent{Node: n.Name, Client: client})
	}
	return out, done, nil
}

// openTap taps all agents.
func (a *app) openTap(ctx context.Context, r *agentv1.TapRequest) (tapcmd.Stream, func(), error) {
	agents, done, err := a.agents(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := agents.CheckTarget(ctx, r); err != nil {
		done()
		return nil, nil, err
	}
	// Two agents report a call between their pods.
	r.View = agentv1.TapRequest_ONCE
	ctx, cancel := context.WithCancel(ctx)
	s := &merged{batches: make(chan *agentv1.TapEvents), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		_ = agents.Tap(ctx, r, func(batch *agentv1.TapEvents) error {
			select {
			case s.batches <- batch:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	return s, func() { cancel(); <-s.ended; done() }, nil
}

// merged is a tap of several agents.
type merged struct {
	batches chan *agentv1.TapEvents
	ended   chan struct{}
}

// Recv implements tapcmd.Stream.
func (m *merged) Recv() (*agentv1.TapEvents, error) {
	select {
	case batch := <-m.batches:
		return batch, nil
	case <-m.ended:
		return nil, io.EOF
	}
}
