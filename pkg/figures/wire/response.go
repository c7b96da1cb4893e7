package wire

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
)

// ToProto converts a result of an agent. skew is that of the request.
func ToProto(r *figures.Result, node string, skew time.Duration, now time.Time) *agentv1.FiguresResponse {
	out := &agentv1.FiguresResponse{
		Node: node, Now: timestamppb.New(now), Start: timestamppb.New(r.Start.Add(-skew)),
		Since: timestamppb.New(r.Since.Add(-skew)), Step: durationpb.New(r.Step), Folded: r.Folded, Dropped: r.Dropped,
	}
	names := tables{ends: map[figures.End]uint32{}, services: map[figures.Service]uint32{}, routes: map[figures.Route]uint32{}, out: out}
	for i := range r.Edges {
		e := &r.Edges[i]
		edge := &agentv1.FiguresEdge{
			Inbound: e.Key.Direction == mesh.Inbound, Source: names.end(e.Key.Source), Destination: names.end(e.Key.Destination),
			Service: names.service(e.Key.Service), Route: names.route(e.Key.Route), Protocol: e.Key.Protocol, Tls: e.Key.TLS,
		}
		for index, sums := range e.Points {
			if sums != nil {
				edge.Points = append(edge.Points, point(index, sums))
			}
		}
		out.Edges = append(out.Edges, edge)
	}
	return out
}

// Pod converts a pod of the agent's node.
func Pod(w *mesh.Workload) *agentv1.FiguresPod {
	return &agentv1.FiguresPod{End: end(figures.EndOf(w)), Ready: w.Ready, Labels: string(w.Labels)}
}

// tables give each name a number.
type tables struct {
	ends     map[figures.End]uint32
	services map[figures.Service]uint32
	routes   map[figures.Route]uint32
	out      *agentv1.FiguresResponse
}

func (t *tables) end(e figures.End) uint32 {
	n, ok := t.ends[e]
	if !ok {
		n = uint32(len(t.out.Ends))
		t.ends[e] = n
		t.out.Ends = append(t.out.Ends, end(e))
	}
	return n
}

func end(e figures.End) *agentv1.FiguresEnd {
	return &agentv1.FiguresEnd{
		Namespace: e.Namespace, Kind: e.Kind, Name: e.Name, Pod: e.Pod, Node: e.Node, Identity: e.Identity, Meshed: e.Meshed, Observed: e.Observed, Address: e.Address,
	}
}

func (t *tables) service(s figures.Service) uint32 {
	if s == (figures.Service{}) {
		return 0
	}
	n, ok := t.services[s]
	if !ok {
		t.out.Services = append(t.out.Services, &agentv1.FiguresName{Namespace: s.Namespace, Name: s.Name})
		n = uint32(len(t.out.Services))
		t.services[s] = n
	}
	return n
}

func (t *tables) route(r figures.Route) uint32 {
	if r == (figures.Route{}) {
		return 0
	}
	n, ok := t.routes[r]
	if !ok {
		t.out.Routes = append(t.out.Routes, &agentv1.FiguresName{Namespace: r.Namespace, Name: r.Name, Kind: r.Kind, Rule: r.Rule})
		n = uint32(len(t.out.Routes))
		t.routes[r] = n
	}
	return n
}

func point(index int, s *figures.Sums) *agentv1.FiguresPoint {
	p := &agentv1.FiguresPoint{
		Index: uint32(index), Success: s.Success, Retries: s.Retries,
		Opened: s.Opened, Closed: s.Closed, Failed: s.Failed, Open: s.Open, Read: s.Read, Written: s.Written,
		Srtt: uint64(s.SRTT.Microseconds()), MinRtt: uint64(s.MinRTT.Microseconds()), Srtts: s.SRTTs, Retransmits: s.Retransmits,
		Denied: s.Denied, Audited: s.Audited,
	}
	for _, f := range s.Failures {
		p.Failures = append(p.Failures, &agentv1.FiguresFailure{Reason: f.Reason.String(), Count: f.Count})
	}
	if s.Latency != nil {
		last := 0
		for bucket, n := range s.Latency.Buckets() {
			p.Buckets, p.Counts, last = append(p.Buckets, int32(bucket-last)), append(p.Counts, n), bucket
		}
	}
	if s.Parts != [figures.NumParts]time.Duration{} {
		for _, d := range s.Parts {
			p.Parts = append(p.Parts, uint64(max(0, d.Microseconds())))
		}
	}
	return p
}

// Bounds of what is read of an answer: a short message of an agent that lies must not make
// its reader allocate much. No agent has more than half as many edges, and no question as
// many points (tapv1alpha1.MaxPoints).
const (
	maxEdges  = 4000
	maxPoints = 1500
)

// FromProto converts what an agent answered. What makes no sense in it is left out: an
// agent may be of another version, or lie.
func FromProto(m *agentv1.FiguresResponse) *figures.Result {
	r := &figures.Result{
		Start: m.GetStart().AsTime(), Since: m.GetSince().AsTime(), Step: m.GetStep().AsDuration(),
		Folded: m.GetFolded(), Dropped: m.GetDropped(), Edges: make([]figures.Edge, 0, min(len(m.GetEdges()), maxEdges)),
	}
	ends := make([]figures.End, len(m.GetEnds()))
	for i, e := range m.GetEnds() {
		ends[i] = FromEnd(e)
	}
	for _, e := range m.GetEdges()[:min(len(m.GetEdges()), maxEdges)] {
		if int(e.GetSource()) >= len(ends) || int(e.GetDestination()) >= len(ends) {
			continue
		}
		edge := figures.Edge{Key: figures.Key{
			Source: ends[e.GetSource()], Destination: ends[e.GetDestination()], Protocol: e.GetProtocol(), TLS: e.GetTls(),
		}}
		if e.GetInbound() {
			edge.Key.Direction = mesh.Inbound
		}
		if n := name(m.GetServices(), e.GetService()); n != nil {
			edge.Key.Service = figures.Service{Namespace: n.GetNamespace(), Name: n.GetName()}
		}
		if n := name(m.GetRoutes(), e.GetRoute()); n != nil {
			edge.Key.Route = figures.Route{Kind: n.GetKind(), Namespace: n.GetNamespace(), Name: n.GetName(), Rule: n.GetRule()}
		}
		for _, p := range e.GetPoints() {
			i := int(p.GetIndex())
			if i >= maxPoints {
				continue
			}
			for len(edge.Points) <= i {
				edge.Points = append(edge.Points, nil)
			}
			edge.Points[i] = sums(p)
		}
		r.Edges = append(r.Edges, edge)
	}
	return r
}

// FromEnd converts an end of traffic.
func FromEnd(e *agentv1.FiguresEnd) figures.End {
	return figures.End{
		Namespace: e.GetNamespace(), Kind: e.GetKind(), Name: e.GetName(), Pod: e.GetPod(), Node: e.GetNode(),
		Identity: e.GetIdentity(), Meshed: e.GetMeshed(), Observed: e.GetObserved(), Address: e.GetAddress(),
	}
}

func name(names []*agentv1.FiguresName, number uint32) *agentv1.FiguresName {
	if number == 0 || int(number) > len(names) {
		return nil
	}
	return names[number-1]
}

func sums(p *agentv1.FiguresPoint) *figures.Sums {
	s := &figures.Sums{
		Success: p.GetSuccess(), Retries: p.GetRetries(),
		Opened: p.GetOpened(), Closed: p.GetClosed(), Failed: p.GetFailed(), Open: p.GetOpen(), Read: p.GetRead(), Written: p.GetWritten(),
		SRTT: micros(p.GetSrtt()), MinRTT: micros(p.GetMinRtt()), SRTTs: p.GetSrtts(), Retransmits: p.GetRetransmits(),
		Denied: p.GetDenied(), Audited: p.GetAudited(),
	}
	for _, f := range p.GetFailures() {
		s.Fail(mesh.ParseReason(f.GetReason()), f.GetCount())
	}
	if len(p.GetBuckets()) > 0 && len(p.GetBuckets()) == len(p.GetCounts()) {
		s.Latency = new(histogram.Histogram)
		bucket := 0
		for i, gap := range p.GetBuckets() {
			bucket += int(gap)
			s.Latency.Add(bucket, p.GetCounts()[i])
		}
	}
	for i, part := range p.GetParts() {
		if i < len(s.Parts) {
			s.Parts[i] = micros(part)
		}
	}
	return s
}

func micros(n uint64) time.Duration {
	return time.Duration(min(n, uint64(1<<53))) * time.Microsecond
}
