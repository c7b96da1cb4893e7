// Package wire converts figures to and from the messages of the node API.
package wire

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// sameClock is by how much two clocks may differ without a correction. Half of it is the
// time that a request may take.
const sameClock = 2 * time.Second

// Skew returns by how much the clock of an agent, at now, is ahead of that of the caller
// of r. It is 0 for small differences.
func Skew(r *agentv1.FiguresRequest, now time.Time) time.Duration {
	if r.GetNow() == nil {
		return 0
	}
	if skew := now.Sub(r.GetNow().AsTime()); skew.Abs() >= sameClock {
		return skew
	}
	return 0
}

// Query returns what r asks of the agent of a node at now. Its error is a mistake of the
// caller.
func Query(r *agentv1.FiguresRequest, node string, now time.Time) (figures.Query, error) {
	s, err := selection(r, node)
	if err != nil {
		return figures.Query{}, err
	}
	skew := Skew(r, now)
	q := figures.Query{Start: r.GetStart().AsTime().Add(skew), End: now, Step: r.GetStep().AsDuration(), Group: s.Group}
	if r.GetEnd() != nil {
		q.End = r.GetEnd().AsTime().Add(skew)
	}
	return q, nil
}

var joins = map[agentv1.FiguresRequest_By]figures.By{
	agentv1.FiguresRequest_POD: figures.ByPod, agentv1.FiguresRequest_WORKLOAD: figures.ByWorkload,
	agentv1.FiguresRequest_NAMESPACE: figures.ByNamespace,
}

func selection(r *agentv1.FiguresRequest, node string) (s *figures.Selection, err error) {
	s = &figures.Selection{By: joins[r.GetBy()], Routes: r.GetRoutes(), Protocol: r.GetProtocol(), Side: mesh.Outbound}
	for _, part := range []struct {
		name, text, namespace string
		to                    *filter.Resource
	}{
		{"of", r.GetOf(), r.GetOfNamespace(), &s.Of},
		{"to", r.GetTo(), r.GetToNamespace(), &s.To},
		{"from", r.GetFrom(), r.GetFromNamespace(), &s.From},
	} {
		if *part.to, err = filter.ParseResource(part.text, part.namespace); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if r.GetServerSide() {
		s.Side = mesh.Inbound
	}
	if r.GetAlone() {
		s.Reports = func(e *figures.End) bool { return e.Reports() && e.Node == node }
	}
	if nodes := r.GetInsteadOf(); len(nodes) > 0 {
		s.InsteadOf = make(map[string]bool, len(nodes))
		for _, name := range nodes {
			s.InsteadOf[name] = true
		}
	}
	return s, nil
}

// Times sets the times of a request: a window that ends at end, by the clock of the caller
// that is at now.
func Times(r *agentv1.FiguresRequest, end time.Time, window, step time.Duration, now time.Time) {
	r.Now, r.Start, r.End = timestamppb.New(now), timestamppb.New(end.Add(-window)), timestamppb.New(end)
	r.Step = durationpb.New(step)
}
