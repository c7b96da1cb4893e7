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
	"golang.org/x/sys/unix"

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
			return o.run(cmd, s, &filter, args)
		},
	}
	filter.add(cmd, s, 0)
	p := cmd.Flags()
	p.BoolVar(&o.hideSources, "hide-sources", false, "one row for all sources")
	p.BoolVar(&o.once, "once", false, "collect for --duration, print the table and end")
	p.DurationVar(&o.duration, "duration", 5*time.Second, "how long --once collects")
	p.StringVarP(&o.output, "output", "o", "table", "with --once: table or json")
	p.StringVar(&o.sort, "sort", "count", "column to sort by, -column for the other way round")
	p.IntVar(&o.maxRows, "max-rows", top.DefaultMaxRows, "rows kept; those unseen for longest go first")
	return cmd
}

type topOptions struct {
	hideSources, once bool
	duration          time.Duration
	output, sort      string
	maxRows           int
}

func (o *topOptions) run(cmd *cobra.Command, s *Source, filter *filterFlags, args []string) error {
	order, err := top.ParseOrder(o.sort)
	if err != nil {
		return err
	}
	if o.output != "table" && o.output != "json" {
		return fmt.Errorf("output format %q: use table or json", o.output)
	}
	if !o.once && o.output == "json" {
		o.once = true // a program reads JSON, and needs one result
	}
	out := cmd.OutOrStdout()
	if !o.once && !isTerminal(out) {
		return errors.New("top needs a terminal: use --once for a table, and -o json for a program")
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
	table.EachOnce = s.Merged
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

// live shows the table on the terminal until the user presses q or the stream ends.
func (o *topOptions) live(ctx context.Context, cancel func(), stream Stream, table *top.Table, order top.Order) error {
	program := tea.NewProgram(topui.New(table, order), tea.WithContext(ctx), tea.WithoutSignalHandler())
	received := make(chan error, 1)
	go func() {
		err := receive(stream, func(batch *agentv1.TapEvents, events []tap.Event) {
			program.Send(topui.Events{Events: events, Lost: batch.GetLost(), Warnings: batch.GetWarnings()})
		})
		program.Quit()
		received <- err
	}()
	_, err := program.Run()
	cancel()
	streamErr := <-received
	if errors.Is(err, tea.ErrProgramKilled) { // a signal has cancelled ctx
		err = nil
	}
	return errors.Join(err, streamErr)
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
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
