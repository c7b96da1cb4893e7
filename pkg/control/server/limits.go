package server

import (
	"context"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// lender has the Ledger while this controller leads.
type lender struct {
	leader func() (leads bool, address string)
	start  time.Time

	mu     sync.Mutex
	shared map[string]lease.Shared
	ledger *lease.Ledger // nil: this controller does not lead, or was not asked yet
	lost   chan struct{} // closed when it leads no more
}

func newLender(leader func() (bool, string)) *lender {
	if leader == nil {
		leader = func() (bool, string) { return true, "" }
	}
	return &lender{leader: leader, start: time.Now()}
}

// now is a time of the monotonic clock.
func (l *lender) now() time.Duration { return time.Since(l.start) }

func (l *lender) set(shared map[string]lease.Shared) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if reflect.DeepEqual(l.shared, shared) {
		return
	}
	l.shared = shared
	if l.ledger != nil {
		l.ledger.Set(shared)
	}
}

// current returns the Ledger, which ends when lost is closed. It is nil if another controller,
// at address, leads.
func (l *lender) current() (ledger *lease.Ledger, lost <-chan struct{}, address string) {
	leads, address := l.leader()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !leads && l.ledger != nil:
		close(l.lost)
		l.ledger, l.lost = nil, nil
	case leads && l.ledger == nil:
		l.ledger, l.lost = lease.NewLedger(l.now()), make(chan struct{})
		l.ledger.Set(l.shared)
	}
	return l.ledger, l.lost, address
}

// settle divides what has changed.
func (l *lender) settle() {
	l.mu.Lock()
	idle := l.ledger == nil
	l.mu.Unlock()
	if idle {
		return
	}
	if ledger, _, _ := l.current(); ledger != nil {
		ledger.Settle(l.now())
	}
}

// Lend lends shares of limits until ctx ends. Without it agents have no leases.
func (s *Server) Lend(ctx context.Context) error {
	tick := time.NewTicker(lease.SettleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.lender.settle()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Limits serves an agent's stream of demands.
func (s *Server) Limits(stream grpc.BidiStreamingServer[pb.LimitReport, pb.LimitLeases]) error {
	caller, err := s.caller(stream.Context())
	if err != nil {
		return err
	}
	l := s.lender
	ledger, lost, address := l.current()
	if ledger == nil {
		return stream.Send(&pb.LimitLeases{Leader: address})
	}
	session := ledger.Connect(l.now(), caller.node)
	defer session.Close()
	ctx, cancel := context.WithDeadline(stream.Context(), caller.expiry)
	defer cancel()
	reports, ended := control.Receive(ctx, stream.Recv)
	for {
		if m, ok := session.Leases(l.now()); ok {
			if err := stream.Send(codec.EncodeLeases(m)); err != nil {
				return err
			}
		}
		select {
		case <-session.Wake():
		case r := <-reports:
			report, err := codec.DecodeReport(r)
			if err == nil {
				err = session.Report(l.now(), report)
			}
			switch {
			case errors.Is(err, lease.ErrReplaced):
				return status.Error(codes.Aborted, err.Error())
			case err != nil:
				return status.Error(codes.InvalidArgument, err.Error())
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-lost:
			return status.Error(codes.Unavailable, "this controller leads no more")
		case <-s.closed:
			return status.Error(codes.Unavailable, "the controller is stopping")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// limited is a pod with limits that nodes share.
type limited struct {
	workload *mesh.Workload
	spec     *authz.Spec
}

func shares(spec *authz.Spec) bool {
	return spec != nil && slices.ContainsFunc(spec.Limits, func(l authz.Limit) bool { return l.Nodes != 0 && l.Requests != 0 })
}

// sharedLimits returns the limits that nodes share.
func sharedLimits(pods map[string]limited) map[string]lease.Shared {
	var out map[string]lease.Shared
	for _, uid := range slices.Sorted(maps.Keys(pods)) {
		w, spec := pods[uid].workload, pods[uid].spec
		for i := range spec.Limits {
			l := &spec.Limits[i]
			if l.Nodes == 0 || l.Requests == 0 {
				continue
			}
			name := l.FullName()
			shared, ok := out[name]
			if !ok {
				if out == nil {
					out = map[string]lease.Shared{}
				}
				shared = lease.Shared{Rate: l.PerSecond(), Of: int(l.Nodes), Nodes: map[string]struct{}{}}
				out[name] = shared
			}
			shared.Nodes[w.Node] = struct{}{}
		}
	}
	return out
}
