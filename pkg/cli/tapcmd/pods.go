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

// askEvery is how often the live table of pods asks the agent.
const askEvery = time.Second

// podFlags are the flags of top that --pods knows.
var podFlags = []string{"pods", "namespace", "once", "duration", "output", "sort", "help"}

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
	ask, done, err := s.Costs()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	table := &podtop.Table{Namespace: filter.namespace}
	if !o.once {
		return s.ended(ctx, show(ctx, cancel, topui.New(topui.Pods{Table: table}, order), func(send func(tea.Msg)) error {
			return poll(ctx, ask, askEvery, 0, func(r *agentv1.CostsResponse) { send(topui.Costs{CostsResponse: r}) })
		}))
	}
	if err := poll(ctx, ask, o.duration, 2, table.Add); err != nil {
		return s.ended(ctx, err)
	}
	if o.output == "json" {
		return table.WriteJSON(out, order)
	}
	return table.WriteTable(out, order)
}

// poll asks at once and then periodically, and passes the answers to add: a number of times,
// or until ctx is done if times is 0. It then returns the error of ctx.
func poll(ctx context.Context, ask func(context.Context) (*agentv1.CostsResponse, error), every time.Duration, times int, add func(*agentv1.CostsResponse)) error {
	timer := time.NewTicker(max(every, time.Millisecond))
	defer timer.Stop()
	for n := 1; ; n++ {
		r, err := ask(ctx)
		if err != nil {
			return err
		}
		if add(r); n == times {
			return nil
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
