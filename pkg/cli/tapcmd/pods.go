package tapcmd

import (
	"context"
	"fmt"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/podtop"
	"github.com/underlane/underlane/pkg/cli/topui"
)

// The live table of pods asks the agent of a node askEvery, and those of a cluster, through
// its controller, askAllEvery.
const (
	askEvery    = time.Second
	askAllEvery = 3 * time.Second
)

// podFlags are the flags of top that --pods knows.
var podFlags = []string{"pods", "namespace", "all-namespaces", "once", "duration", "output", "sort", "help"}

// runPods is top with --pods.
func (o *topOptions) runPods(cmd *cobra.Command, s *Source, filter *filterFlags, args []string) (err error) {
	if len(args) > 0 {
		return fmt.Errorf("--pods shows all pods of %s, or those of --namespace: leave %q away", s.Scope, args[0])
	}
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Changed && !slices.Contains(podFlags, f.Name) {
			err = fmt.Errorf("--%s is not for --pods: leave it away", f.Name)
		}
	})
	if err != nil {
		return err
	}
	if !cmd.Flags().Changed("sort") {
		o.sort = "cpu"
	}
	order, err := podtop.ParseOrder(o.sort)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if err := o.check(out); err != nil {
		return err
	}
	namespace := filter.namespace
	if s.Namespace != nil {
		if namespace, err = s.Namespace(namespace); err != nil {
			return err
		}
	}
	ask, done, err := s.Costs()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	table := &podtop.Table{Namespace: namespace, Nodes: s.Merged}
	if !o.once {
		every := askEvery
		if s.Merged {
			every = askAllEvery
		}
		return s.ended(ctx, show(ctx, cancel, topui.New(&topui.Pods{Table: table}, order), func(send func(tea.Msg)) error {
			return poll(ctx, ask, every, 0, func(costs []*agentv1.CostsResponse, warnings []string) {
				send(topui.Costs{Costs: costs, Warnings: warnings})
			})
		}))
	}
	var missing []string
	if err := poll(ctx, ask, o.duration, 2, func(costs []*agentv1.CostsResponse, warnings []string) {
		table.Add(costs...)
		missing = warnings
	}); err != nil {
		return s.ended(ctx, err)
	}
	tell(cmd.ErrOrStderr(), &agentv1.TapEvents{Warnings: missing})
	if o.output == "json" {
		return table.WriteJSON(out, order)
	}
	return table.WriteTable(out, order)
}

// poll asks at once and then periodically, and passes the answers to add: a number of times,
// or until ctx is done if times is 0. It then returns the error of ctx.
func poll(ctx context.Context, ask Ask, every time.Duration, times int, add func([]*agentv1.CostsResponse, []string)) error {
	timer := time.NewTicker(max(every, time.Millisecond))
	defer timer.Stop()
	for n := 1; ; n++ {
		costs, warnings, err := ask(ctx)
		if err != nil {
			return err
		}
		if add(costs, warnings); n == times {
			return nil
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
