package node

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/statcmd"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/figures/wire"
)

// StatCommands are `agent stat` and `agent edges`: what this node's agent remembers.
func StatCommands(f *Flags) []*cobra.Command {
	s := &statcmd.Source{Program: "agent", Scope: "this node", Figures: f.figures}
	return []*cobra.Command{statcmd.Stat(s), statcmd.Edges(s)}
}

// figures asks this node's agent, and no other.
func (f *Flags) figures(ctx context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
	q, err := tapv1alpha1.ParseFigures(q.Values())
	if err != nil {
		return nil, err
	}
	now := time.Now()
	r, err := table.Request(&q, now)
	if err != nil {
		return nil, err
	}
	// The servers' reports are for stat, whose rows are of this node. Otherwise what pods
	// of other nodes send here counts, too: their agents are not asked.
	r.Alone, r.Pods = q.Side == tapv1alpha1.SideSource, true
	client, done, err := f.dial()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	m, err := client.Figures(ctx, r)
	if err != nil {
		return nil, f.explain(err)
	}
	known := &table.Known{}
	for _, p := range m.GetPods() {
		known.Pods = append(known.Pods, table.Pod{End: wire.FromEnd(p.GetEnd()), Ready: p.GetReady()})
	}
	return table.Merge(&q, &table.Answers{Results: []*figures.Result{wire.FromProto(m)}, Asked: 1}, known, now), nil
}
