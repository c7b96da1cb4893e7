// Package tapcmd has the commands tap and top for one node and for a cluster. The
// two differ only in the source of the events.
package tapcmd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/tap/render"
)

// Source is a source of events and figures.
type Source struct {
	Program string // name of the program in examples: agent, underlane
	Scope   string // in help texts: this node, the cluster
	// Merged is true if the events come from the agents of several nodes. Two agents
	// may then report the same request.
	Merged bool
	// NeedsTarget makes a command without a resource an error.
	NeedsTarget bool
	// Observes is true if pods can be observed for a moment.
	Observes bool
	// Flags adds the source's own flags. It may be nil.
	Flags func(*pflag.FlagSet)
	// Namespace returns the namespace of a resource. named is the user's value,
	// which may be "". If Namespace is nil the value is used unchanged, and ""
	// stands for any namespace.
	Namespace func(named string) (string, error)
	// Open opens a stream. No event is missed after it has returned. Its errors are
	// written for users.
	Open func(ctx context.Context, r *agentv1.TapRequest) (Stream, func(), error)
	// Costs connects to the agents for top --pods.
	Costs func() (ask Ask, done func(), err error)
	// Names are the names of resources for the shell. It may be nil.
	Names cli.Names
	// JSONPath returns what finds the parts of a JSON value that an expression means, for
	// -o jsonpath. nil: there is none.
	JSONPath func(expression string) (find func(value any) ([]any, error), err error)
	// Explain turns an error of a stream into one that is written for users.
	Explain func(error) error
}

// Ask asks agents what pods cost. It returns the answers, and a sentence for each agent that
// did not answer.
type Ask func(context.Context) (costs []*agentv1.CostsResponse, warnings []string, err error)

// Stream is a running tap.
type Stream interface {
	Recv() (*agentv1.TapEvents, error)
}

// ended returns nil for a stream that ended because its context was cancelled or
// its sender closed it. It returns any other error in a form for users.
func (s *Source) ended(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil, errors.Is(err, io.EOF), errors.Is(err, context.Canceled), status.Code(err) == codes.Canceled, status.Code(err) == codes.DeadlineExceeded:
		return nil
	}
	return s.Explain(err)
}

// request returns the request for the flags and arguments of a command.
func (s *Source) request(f *filterFlags, args []string, view agentv1.TapRequest_View) (*agentv1.TapRequest, error) {
	if s.NeedsTarget && len(args) == 0 {
		return nil, errors.New("which resource? TYPE/NAME, as in deploy/web or ns/shop")
	}
	flags := *f
	if s.Namespace != nil && !isNamespace(args) {
		namespace, err := s.Namespace(f.namespace)
		if err != nil {
			return nil, err
		}
		flags.namespace = namespace
	}
	r := flags.request(args)
	if s.Merged {
		r.View = view
	}
	return r, nil
}

// tell writes a batch's warnings and its number of lost events. The caller calls it
// right after it has written the batch's events, because the loss belongs there.
func tell(w io.Writer, batch *agentv1.TapEvents) {
	for _, text := range batch.GetWarnings() {
		fmt.Fprintf(w, "‼ %s\n", render.Clean(text))
	}
	if n := batch.GetLost(); n > 0 {
		fmt.Fprintf(w, "… %d events lost: this reader is too slow; narrow the filter or lower --max-rps\n", n)
	}
}
