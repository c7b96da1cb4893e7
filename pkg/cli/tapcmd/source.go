// Package tapcmd is the commands tap and top, of one node and of a cluster: they
// differ in where the events come from.
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
	"github.com/underlane/underlane/pkg/tap/render"
)

// Source is where events come from.
type Source struct {
	Program string // in examples: agent, underlane
	Scope   string // whose traffic it is, in help: this node, the cluster
	// Merged says that events are of several nodes' agents, two of which may
	// report one request.
	Merged bool
	// NeedsTarget refuses a command that names no resource.
	NeedsTarget bool
	// Flags adds flags of the source's own; it may be nil.
	Flags func(*pflag.FlagSet)
	// Namespace is the namespace of a resource for which the user gave named,
	// which may be "". A nil Namespace takes it as it is: "" is any.
	Namespace func(named string) (string, error)
	// Open opens a stream; when it returns, nothing is missed any more. Its
	// errors are for people.
	Open func(ctx context.Context, r *agentv1.TapRequest) (Stream, func(), error)
	// Explain turns an error of a stream into one for people.
	Explain func(error) error
}

// Stream is a tap that runs.
type Stream interface {
	Recv() (*agentv1.TapEvents, error)
}

// ended returns nil for a stream that ended because its context was cancelled or its
// sender closed it, and an error for people otherwise.
func (s *Source) ended(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil, errors.Is(err, io.EOF), errors.Is(err, context.Canceled), status.Code(err) == codes.Canceled, status.Code(err) == codes.DeadlineExceeded:
		return nil
	}
	return s.Explain(err)
}

// request is what the flags and arguments of a command ask for.
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

// tell writes the warnings of a batch and how many events were lost before it, in
// the place among the events where that happened.
func tell(w io.Writer, batch *agentv1.TapEvents) {
	for _, text := range batch.GetWarnings() {
		fmt.Fprintf(w, "‼ %s\n", render.Clean(text))
	}
	if n := batch.GetLost(); n > 0 {
		fmt.Fprintf(w, "… %d events lost: this reader is too slow; narrow the filter or lower --max-rps\n", n)
	}
}
