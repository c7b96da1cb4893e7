package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/statcmd"
)

// StatCommands are the commands that ask for figures, stat, edges and routes, and
// connections.
func StatCommands(flags *Flags) []*cobra.Command {
	api := flags.tapAPI()
	s := &statcmd.Source{Program: "underlane", Scope: "the cluster", Namespace: flags.Namespace, Figures: api.figures, Resources: api.resources, Connections: api.connections, Routes: api.routes}
	return []*cobra.Command{statcmd.Stat(s), statcmd.Edges(s), statcmd.Routes(s), statcmd.Connections(s), statcmd.Egress(s)}
}

// figures asks the controller. The user needs the right to see the query's namespace only.
func (a *tapAPI) figures(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
	f := &tapv1alpha1.Figures{}
	return f, a.getFigures(ctx, tapv1alpha1.FiguresPath(q.Namespace), q, f)
}

func (a *tapAPI) routes(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.RouteList, error) {
	list := &tapv1alpha1.RouteList{}
	return list, a.getFigures(ctx, tapv1alpha1.RoutesPath(q.Namespace), q, list)
}

// resources asks the controller what resources use. The user needs the right to see the
// query's namespace only.
func (a *tapAPI) resources(ctx context.Context, q tapv1alpha1.ResourcesQuery) (*tapv1alpha1.ResourceList, error) {
	list := &tapv1alpha1.ResourceList{}
	path := tapv1alpha1.ResourcesPath(q.Namespace)
	q.Namespace = ""
	return list, a.getList(ctx, path, q.Values(), list)
}

func (a *tapAPI) connections(ctx context.Context, q tapv1alpha1.ConnectionsQuery) (*tapv1alpha1.ConnectionList, error) {
	list := &tapv1alpha1.ConnectionList{}
	path := tapv1alpha1.ConnectionsPath(q.Namespace)
	q.Namespace = ""
	return list, a.getList(ctx, path, q.Values(), list)
}

// getFigures reads the answer at path, which has q's namespace.
func (a *tapAPI) getFigures(ctx context.Context, path string, q tapv1alpha1.FiguresQuery, answer any) error {
	q.Namespace = ""
	return a.getList(ctx, path, q.Values(), answer)
}

func (a *tapAPI) getList(ctx context.Context, path string, values url.Values, answer any) error {
	query := make(map[string]string, len(values))
	for name := range values {
		query[name] = values.Get(name)
	}
	data, err := a.get(ctx, path, query)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("answer of the controller: %w", err)
	}
	return nil
}
