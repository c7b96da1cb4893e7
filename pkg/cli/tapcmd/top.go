package tapcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/topui"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/top"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// Top is the command top: a live table.
func Top(s *Source) *cobra.Command {
	var filter filterFlags
	o := topOptions{}
	short := fmt.Sprintf("Show a live table of requests and connections of %s", s.Scope)
	cmd := &cobra.Command{
		Use:     "top " + s.argument(),
		Short:   short,
		Long:    short + ".\n\n" + s.resourceHelp(),
		Example: s.examples("top deploy/web", "top ns/shop --sort success", "top deploy/web --once --duration 10s -o json"),
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.pods {
				return o.runPods(cmd, s, &filter, args)
			}
			return o.run(cmd, s, &filter, args)
		},
	}
	filter.add(cmd, s, 0)
	p := cmd.Flags()
	p.BoolVar(&o.hideSources, "hide-sources", false, "one row for all sources")
	p.BoolVar(&o.routes, "routes", false, "one row for each route and rule, not for each method and path")
	p.BoolVar(&o.once, "once", false, "collect for --duration, print the table and end")
	p.DurationVar(&o.duration, "duration", 5*time.Second, "how long --once collects")
	p.StringVarP(&o.output, "output", "o", "table", "with --once: table or json")
	p.StringVar(&o.sort, "sort", "count", "column to sort by, -column for the other way round")
	p.BoolVar(&o.pods, "pods", false, "show what each pod of "+s.Scope+" costs its agent: processor time, waits, memory, connections")
	p.IntVar(&o.maxRows, "max-rows", top.DefaultMaxRows, "rows kept; those unseen for longest go first")
	cli.Complete(cmd, s.Names, false)
	return cmd
}

type topOptions struct {
	hideSources, once bool
	routes            bool
	pods              bool
	duration          time.Duration
	output, sort      string
	maxRows           int
}

func (o *topOptions) run(cmd *cobra.Command, s *Source, filter *filterFlags, args []string) error {
	order, err := top.ParseOrder(o.sort)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if err := o.check(out); err != nil {
		return err
	}
	request, err := s.request(filter, args, agentv1.TapRequest_ONCE)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	stream, done, err := s.Open(ctx, request)
	if err != nil {
		return err
	}
	defer done()
	if o.once {
		defer time.AfterFunc(o.duration, cancel).Stop()
	}
	table := top.NewTable(o.hideSources, o.maxRows)
	table.EachOnce, table.ByRoute = s.Merged, o.routes
	if !o.once {
		return s.ended(ctx, o.live(ctx, cancel, stream, table, order))
	}
	if err := s.ended(ctx, receive(stream, func(batch *agentv1.TapEvents, events []tap.Event) {
		for i := range events {
			table.Add(&events[i])
		}
		table.Lost += batch.GetLost()
		tell(cmd.ErrOrStderr(), &agentv1.TapEvents{Warnings: batch.GetWarnings()})
	})); err != nil {
		return err
	}
	if o.output == "json" {
		return table.WriteJSON(out, order)
	}
	if table.Lost > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d events lost: counts are too low\n", table.Lost)
	}
	return table.WriteTable(out, order)
}

// check checks the flags for an output. JSON is for a program, which needs one result.
func (o *topOptions) check(out io.Writer) error {
	if o.output != "table" && o.output != "json" {
		return fmt.Errorf("output format %q: use table or json", o.output)
	}
	o.once = o.once || o.output == "json"
	if !o.once && !isTerminal(out) {
		return errors.New("top needs a terminal: use --once for a table, and -o json for a program")
	}
	return nil
}

// live shows the table on the terminal until the user presses q or the stream ends.
func (o *topOptions) live(ctx context.Context, cancel func(), stream Stream, table *top.Table, order top.Order) error {
	model := topui.New(&topui.Traffic{Table: table}, order)
	return show(ctx, cancel, model, func(send func(tea.Msg)) error {
		return receive(stream, func(batch *agentv1.TapEvents, events []tap.Event) {
			send(topui.Events{Events: events, Lost: batch.GetLost(), Warnings: batch.GetWarnings()})
		})
	})
}

// show runs a program on the terminal until the user presses q, or feed returns. feed sends
// it data, and returns when cancel was called.
func show(ctx context.Context, cancel func(), model tea.Model, feed func(send func(tea.Msg)) error) error {
	program := tea.NewProgram(model, tea.WithContext(ctx), tea.WithoutSignalHandler())
	fed := make(chan error, 1)
	go func() {
		err := feed(program.Send)
		program.Quit()
		fed <- err
	}()
	_, err := program.Run()
	cancel()
	feedErr := <-fed
	if errors.Is(err, tea.ErrProgramKilled) { // a signal has cancelled ctx
		err = nil
	}
	return errors.Join(err, feedErr)
}

// receive passes every batch to add until the stream ends.
func receive(stream Stream, add func(*agentv1.TapEvents, []tap.Event)) error {
	for {
		batch, err := stream.Recv()
		if err != nil {
			return err
		}
		events := make([]tap.Event, len(batch.GetEvents()))
		for i, m := range batch.GetEvents() {
			events[i] = wire.FromProto(m)
		}
		add(batch, events)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := cli.Raw(w).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
