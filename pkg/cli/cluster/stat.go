package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/statcmd"
)

// StatCommands are the commands that ask for figures: stat and edges.
func StatCommands(flags *Flags) []*cobra.Command {
	s := &statcmd.Source{Program: "underlane", Scope: "the cluster", Namespace: flags.Namespace, Figures: flags.figures}
	return []*cobra.Command{statcmd.Stat(s), statcmd.Edges(s)}
}

// figures asks the controller. The user needs the right to see the query's namespace only.
func (c *Flags) figures(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
	path := tapv1alpha1.FiguresPath(q.Namespace)
	q.Namespace = ""
	values := q.Values()
	query := make(map[string]string, len(values))
	for name := range values {
		query[name] = values.Get(name)
	}
	data, err := c.get(ctx, path, query)
	if err != nil {
		return nil, err
	}
	f := &tapv1alpha1.Figures{}
	if err := json.Unmarshal(data, f); err != nil {
		return nil, fmt.Errorf("figures from the controller: %w", err)
	}
	return f, nil
}
