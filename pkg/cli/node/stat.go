package node

import (
	"context"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/statcmd"
)

// StatCommands are `agent stat` and `agent edges`, what this node's agent remembers, and
// `agent connections`.
func StatCommands(f *Flags) []*cobra.Command {
	s := &statcmd.Source{Program: "agent", Scope: "this node", Figures: f.figures, Resources: f.resources, Connections: f.connections, Routes: f.routes}
	return []*cobra.Command{statcmd.Stat(s), statcmd.Edges(s), statcmd.Connections(s), statcmd.Egress(s)}
}

// figures asks this node's agent, and no other.
func (f *Flags) figures(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
	api, done, err := f.api()
	if err != nil {
		return nil, err
	}
	defer done()
	return api.Figures(ctx, q)
}

// resources asks this node's agent what the pods of the node use.
func (f *Flags) resources(ctx context.Context, q tapv1alpha1.ResourcesQuery) (*tapv1alpha1.ResourceList, error) {
	api, done, err := f.api()
	if err != nil {
		return nil, err
	}
	defer done()
	return api.Resources(ctx, q)
}

// connections asks this node's agent for the open connections of the node's pods.
func (f *Flags) connections(ctx context.Context, q tapv1alpha1.ConnectionsQuery) (*tapv1alpha1.ConnectionList, error) {
	api, done, err := f.api()
	if err != nil {
		return nil, err
	}
	defer done()
	return api.Connections(ctx, q)
}

// routes asks this node's agent for the routes that it has, and their figures.
func (f *Flags) routes(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.RouteList, error) {
	api, done, err := f.api()
	if err != nil {
		return nil, err
	}
	defer done()
	return api.Routes(ctx, q)
}
