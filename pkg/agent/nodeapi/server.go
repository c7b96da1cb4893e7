package nodeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// StatusProvider returns the status of the agent. The server sets Ready and adds to
// NotReady (see Judge); the provider may put sentences of its own into NotReady.
type StatusProvider interface {
	Status(ctx context.Context) *agentv1.StatusResponse
}

// Dumper writes the agent's maps and state as one JSON object.
type Dumper interface {
	Dump(ctx context.Context) ([]byte, error)
}

// CostProvider returns what the agent has spent for the pods of its node.
type CostProvider interface {
	Costs(ctx context.Context) *agentv1.CostsResponse
}

// Looker observes pods that are not in the mesh, until the caller calls end.
type Looker interface {
	Look(ctx context.Context, selects func(*mesh.Workload) bool) (end func(), err error)
}

// Exporter writes the agent's metrics in the Prometheus text format.
type Exporter interface {
	WriteText(w io.Writer) error
}

// Server implements the node API. Its fields must not change while it serves.
type Server struct {
	agentv1.UnimplementedNodeServer
	Hub      *tap.Hub
	Source   StatusProvider
	Dumper   Dumper       // nil: Dump is not implemented
	Exporter Exporter     // nil: Metrics is not implemented
	Ledger   CostProvider // nil: Costs is not implemented
	Usage    Reporter     // nil: Resources is not implemented
	Lister   Lister       // nil: Connections is not implemented
	MaxTaps  int64        // taps at once; 0: no limit

	Node   string                  // name of the node
	Memory Rememberer              // nil: Figures is not implemented
	Pods   func() []*mesh.Workload // pods of the node; nil: Figures has none
	// Known returns all pods that the agent knows, for the selectors of Figures. nil: none.
	Known func() iter.Seq[*mesh.Workload]

	Dialer  Dialer                     // nil: Try is not implemented
	Ejected func() []*agentv1.Ejection // nil: Ejections is not implemented
	Looker  Looker                     // nil: a tap cannot observe pods
	// Missed is how many segments and events of observed connections were lost; nil: none are
	// observed.
	Missed func() uint64

	Authorization // its fields may be nil: then the rpcs are not implemented

	taps atomic.Int64
}

// maxBatch and maxBatchHeaders bound the events in one message, and the bytes of their
// header fields. A thousand events with these are well below gRPC's limit of 4 MiB.
const (
	maxBatch        = 1000
	maxBatchHeaders = 1 << 20
)

// Serve serves on ln until ctx ends, then cuts the streams and closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener, opts ...grpc.ServerOption) error {
	g := grpc.NewServer(opts...)
	agentv1.RegisterNodeServer(g, s)
	agentv1.RegisterPodResourcesServer(g, podResources{reporter: s.Usage})
	agentv1.RegisterOpenConnectionsServer(g, openConnections{lister: s.Lister})
	agentv1.RegisterAuthorizationServer(g, authorization{Server: s})
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	if err := g.Serve(ln); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve the node API: %w", err)
	}
	return nil
}

// Tap implements the rpc.
func (s *Server) Tap(r *agentv1.TapRequest, stream grpc.ServerStreamingServer[agentv1.TapEvents]) error {
	f, err := filter.New(wire.Filter(r))
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	defer s.taps.Add(-1)
	if n := s.taps.Add(1); s.MaxTaps > 0 && n > s.MaxTaps {
		return status.Errorf(codes.ResourceExhausted, "%d taps are running on this node, which is as many as may: end one", s.MaxTaps)
	}
	ctx, cancel := untilExpiry(stream.Context())
	defer cancel()
	subscribe := s.Hub.Subscribe
	if r.GetHeaders() {
		subscribe = s.Hub.SubscribeHeaders
	}
	sub := subscribe(f.Match, int(r.GetBuffer()))
	defer sub.Close()
	if r.GetObserve() {
		end, err := s.look(ctx, r, f)
		if err != nil {
			return err
		}
		defer end()
	}
	// The header tells the reader that the subscription has begun.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	missed := s.missed()
	for {
		events, lost, err := sub.Next(ctx)
		if err != nil && stream.Context().Err() == nil {
			return status.Error(codes.Unauthenticated, "the caller's certificate has expired: call again")
		}
		if err != nil {
			return status.FromContextError(err).Err()
		}
		for n := batch(events); n < len(events); n = batch(events) {
			if err := stream.Send(wire.Batch(events[:n], 0)); err != nil {
				return err
			}
			events = events[n:]
		}
		out := wire.Batch(events, lost)
		if n := s.missed(); n > missed {
			out.Warnings = append(out.Warnings, fmt.Sprintf(
				"%s: %d segments or events of connections that no proxy carries were lost: requests of them are missing (observe-… in the metrics say why)", s.Node, n-missed))
			missed = n
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

func (s *Server) missed() uint64 {
	if s.Missed == nil {
		return 0
	}
	return s.Missed()
}

// look observes the pods of a tap's target. The stream ends when its caller does, however that
// ends.
func (s *Server) look(ctx context.Context, r *agentv1.TapRequest, f *filter.Filter) (end func(), err error) {
	if s.Looker == nil {
		return nil, status.Error(codes.PermissionDenied, "pods can be observed for a moment at the node's own socket only: agent tap --observe")
	}
	if r.GetTarget() == "" {
		return nil, status.Error(codes.InvalidArgument, "--observe: say which pods")
	}
	if end, err = s.Looker.Look(ctx, f.Selects); err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "--observe %s: %v", r.GetTarget(), err)
	}
	return end, nil
}

// batch returns how many of the events go into the next message.
func batch(events []tap.Event) int {
	bytes := 0
	for i := range events[:min(len(events), maxBatch)] {
		if bytes += events[i].Headers.Size(); bytes > maxBatchHeaders {
			return max(i, 1)
		}
	}
	return min(len(events), maxBatch)
}

// Status implements the rpc.
func (s *Server) Status(ctx context.Context, _ *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	st := s.Source.Status(ctx)
	Judge(st)
	return st, nil
}

// Dump implements the rpc.
func (s *Server) Dump(ctx context.Context, _ *agentv1.DumpRequest) (*agentv1.DumpResponse, error) {
	if s.Dumper == nil {
		return nil, status.Error(codes.Unimplemented, "this agent has no dump")
	}
	data, err := s.Dumper.Dump(ctx)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil, status.FromContextError(err).Err()
		}
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &agentv1.DumpResponse{Json: data}, nil
}

// Metrics implements the rpc.
func (s *Server) Metrics(context.Context, *agentv1.MetricsRequest) (*agentv1.MetricsResponse, error) {
	if s.Exporter == nil {
		return nil, status.Error(codes.Unimplemented, "this agent has no metrics")
	}
	var text bytes.Buffer
	if err := s.Exporter.WriteText(&text); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &agentv1.MetricsResponse{Text: text.Bytes()}, nil
}

// Costs implements the rpc.
func (s *Server) Costs(ctx context.Context, _ *agentv1.CostsRequest) (*agentv1.CostsResponse, error) {
	if s.Ledger == nil {
		return nil, status.Error(codes.Unimplemented, "this agent does not tell what pods cost")
	}
	return s.Ledger.Costs(ctx), nil
}
