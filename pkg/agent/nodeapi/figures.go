package nodeapi

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/wire"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// Rememberer is what the agent remembers of the node's traffic.
type Rememberer interface {
	Query(q figures.Query, now time.Time) *figures.Result
}

// Figures implements the rpc.
func (s *Server) Figures(_ context.Context, r *agentv1.FiguresRequest) (*agentv1.FiguresResponse, error) {
	if s.Memory == nil {
		return nil, status.Error(codes.Unimplemented, "this agent remembers no figures")
	}
	now := time.Now()
	q, err := wire.Query(r, s.Node, now)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if r.GetSelector() != "" {
		if q.Group, err = s.selected(r, q.Group); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
	}
	out := wire.ToProto(s.Memory.Query(q, now), s.Node, wire.Skew(r, now), now)
	out.Selected = r.GetSelector() != ""
	if r.GetPods() && s.Pods != nil {
		for _, w := range s.Pods() {
			out.Pods = append(out.Pods, wire.Pod(w))
		}
	}
	return out, nil
}

// selected returns group for the pods that the selector of r selects.
func (s *Server) selected(r *agentv1.FiguresRequest, group func(figures.Key) (figures.Key, bool)) (func(figures.Key) (figures.Key, bool), error) {
	selector, err := filter.ParseSelector(r.GetSelector())
	if err != nil {
		return nil, err
	}
	type pod struct{ namespace, name string }
	pods := map[pod]bool{}
	if s.Known != nil {
		for w := range s.Known() {
			if selector.Matches(w.Labels) && (r.GetOfNamespace() == "" || r.GetOfNamespace() == w.Namespace) {
				pods[pod{w.Namespace, w.Name}] = true
			}
		}
	}
	return func(k figures.Key) (figures.Key, bool) {
		end := &k.Destination
		if r.GetTo() == "" && r.GetFrom() != "" {
			end = &k.Source
		}
		if !pods[pod{end.Namespace, end.Pod}] {
			return k, false
		}
		return group(k)
	}, nil
}
