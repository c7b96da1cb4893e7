package node

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/agentapi"
	"github.com/underlane/underlane/pkg/cli/tapcmd"
)

// TapCommand is `agent tap`, which prints a line for each event of this node's
// traffic.
func TapCommand(f *Flags) *cobra.Command { return tapcmd.Tap(f.source()) }

// TopCommand is `agent top`, which shows a live table of this node's traffic.
func TopCommand(f *Flags) *cobra.Command { return tapcmd.Top(f.source()) }

// source returns this node's agent as a source.
func (f *Flags) source() *tapcmd.Source {
	return &tapcmd.Source{Program: "agent", Scope: "this node", Observes: true, Open: f.tap, Costs: f.costs, Names: cli.NamesOf(f.resources, nil), Explain: f.explain}
}

func (f *Flags) tap(ctx context.Context, r *agentv1.TapRequest) (tapcmd.Stream, func(), error) {
	client, done, err := f.dial()
	if err != nil {
		return nil, nil, err
	}
	api, closeAPI, err := f.api()
	if err == nil {
		err = api.CheckTarget(ctx, r)
		closeAPI()
	}
	var unknown *agentapi.UnknownError
	if err != nil && !errors.As(err, &unknown) {
		done()
		return nil, nil, err
	}
	stream, err := client.Tap(ctx, r)
	if err == nil {
		_, err = stream.Header()
	}
	if err != nil {
		done()
		return nil, nil, f.explain(err)
	}
	if unknown != nil {
		return &warned{Stream: stream, text: unknown.Error()}, done, nil
	}
	return stream, done, nil
}

// warned is a stream that begins with a warning.
type warned struct {
	tapcmd.Stream
	text string
}

// Recv implements tapcmd.Stream.
func (w *warned) Recv() (*agentv1.TapEvents, error) {
	if text := w.text; text != "" {
		w.text = ""
		return &agentv1.TapEvents{Warnings: []string{text}}, nil
	}
	return w.Stream.Recv()
}

func (f *Flags) costs() (tapcmd.Ask, func(), error) {
	client, done, err := f.dial()
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) ([]*agentv1.CostsResponse, []string, error) {
		r, err := client.Costs(ctx, &agentv1.CostsRequest{})
		return []*agentv1.CostsResponse{r}, nil, err
	}, done, nil
}
