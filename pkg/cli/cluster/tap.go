package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protodelim"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/tapcmd"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// TapCommands are the commands that read from agents through the controller: tap,
// top, why, identity and diagnostics.
func TapCommands(flags *Flags) []*cobra.Command {
	return []*cobra.Command{
		tapcmd.Tap(tapSource(flags)), tapcmd.Top(tapSource(flags)), WhyCommand(flags), AuthzCommand(flags), IdentityCommand(flags), DiagnosticsCommand(flags),
	}
}

// tapSource returns the source for one command: the agents of all nodes.
func tapSource(flags *Flags) *tapcmd.Source {
	all := false
	return &tapcmd.Source{
		Program: "underlane", Scope: "the cluster", Merged: true, NeedsTarget: true,
		Flags: func(p *pflag.FlagSet) {
			p.BoolVarP(&all, "all-namespaces", "A", false, "RESOURCE is a TYPE, and all of them in all namespaces are meant")
		},
		Namespace: func(named string) (string, error) {
			if all {
				return "", nil
			}
			return flags.Namespace(named)
		},
		Open: func(ctx context.Context, r *agentv1.TapRequest) (tapcmd.Stream, func(), error) {
			path, query, err := tapURL(r)
			if err != nil {
				return nil, nil, err
			}
			s := &clusterStream{flags: flags, ctx: ctx, path: path, query: query}
			if err := s.open(); err != nil {
				return nil, nil, err
			}
			return s, s.close, nil
		},
		Costs:    func() (tapcmd.Ask, func(), error) { return flags.tapAPI().costs, func() {}, nil },
		JSONPath: jsonPath,
		Names:    cli.NamesOf(flags.tapAPI().resources, flags.Namespace),
		Explain:  explain,
	}
}

// tapURL returns the path and the query for r.
func tapURL(r *agentv1.TapRequest) (string, url.Values, error) {
	target, err := filter.ParseResource(r.GetTarget(), r.GetNamespace())
	if err != nil {
		return "", nil, err
	}
	switch {
	case target.Kind == filter.KindNamespace:
		return tapv1alpha1.TapPath(target.Name, "", ""), tapv1alpha1.Query(r, ""), nil
	case target.Name == "":
		return tapv1alpha1.TapPath(target.Namespace, "", ""), tapv1alpha1.Query(r, string(target.Kind)), nil
	case target.Namespace == "":
		return "", nil, fmt.Errorf("%s: one resource is in one namespace: leave --all-namespaces away, or the name", target)
	}
	return tapv1alpha1.TapPath(target.Namespace, string(target.Kind)+"s", target.Name), tapv1alpha1.Query(r, ""), nil
}

// clusterStream is a tap through the API server. When the stream breaks, for
// example because the replica that serves it ends, clusterStream opens it again.
type clusterStream struct {
	flags *Flags
	ctx   context.Context
	path  string
	query url.Values

	body io.ReadCloser
	in   *bufio.Reader
}

const (
	// maxBatch is larger than any message of an agent.
	maxBatch     = 64 << 20
	reopenFor    = 30 * time.Second
	reopenPeriod = time.Second
)

func (s *clusterStream) open() error {
	client, err := s.flags.tapAPI().rest()
	if err != nil {
		return err
	}
	r := client.Get().AbsPath(s.path).SetHeader("Accept", tapv1alpha1.MediaProtobuf)
	for name := range s.query {
		r = r.Param(name, s.query.Get(name))
	}
	if s.body, err = r.Stream(s.ctx); err != nil {
		return explain(err)
	}
	s.in = bufio.NewReader(s.body)
	return nil
}

func (s *clusterStream) close() { _ = s.body.Close() }

// Recv returns the next batch.
func (s *clusterStream) Recv() (*agentv1.TapEvents, error) {
	batch := &agentv1.TapEvents{}
	err := protodelim.UnmarshalOptions{MaxSize: maxBatch}.UnmarshalFrom(s.in, batch)
	if err == nil {
		return batch, nil
	}
	if s.ctx.Err() != nil {
		return nil, s.ctx.Err()
	}
	s.close()
	return s.reopen(err)
}

func (s *clusterStream) reopen(cause error) (*agentv1.TapEvents, error) {
	if errors.Is(cause, io.EOF) {
		cause = errors.New("the controller ended it")
	}
	began := time.Now()
	for {
		err := s.open()
		if err == nil {
			text := fmt.Sprintf("the stream broke (%v) and was opened again: what happened in between is not shown", cause)
			return &agentv1.TapEvents{Warnings: []string{text}}, nil
		}
		if time.Since(began) > reopenFor {
			return nil, fmt.Errorf("the stream broke (%w) and cannot be opened again: %w", cause, err)
		}
		select {
		case <-time.After(reopenPeriod):
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
}
