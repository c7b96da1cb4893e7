package figures

import (
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
)

// By is what the pods of an answer are joined to.
type By uint8

// The kinds of resources that an answer can be about.
const (
	ByPod By = iota
	ByWorkload
	ByNamespace
)

// KindNamespace is the Kind of an End that is a whole namespace.
const KindNamespace = string(filter.KindNamespace)

// Selection says what an answer is about. The zero Selection is all that the agent has
// counted, by pod.
type Selection struct {
	By     By
	Routes bool // tell routes apart
	// Of is either end, or the Service that was called. From and To are the source, and the
	// destination or the Service. The zero Resource is all.
	Of, From, To filter.Resource
	Protocol     string // "": all
	// Side is the side whose report of a call counts where two agents report it. The other
	// one counts only if Reports is false for the end of this side.
	Side mesh.Direction
	// Reports tells whether the agent of a pod contributes to the same answer. nil: if the
	// pod is in the mesh.
	Reports func(*End) bool
	// InsteadOf, if it is not nil, selects only what is there because the agents of these
	// nodes do not answer.
	InsteadOf map[string]bool
}

// Group is a Query's Group for s.
func (s *Selection) Group(k Key) (Key, bool) {
	if s.Protocol != "" && s.Protocol != k.Protocol || !s.counts(&k) {
		return k, false
	}
	if !source(s.From, &k) || !destination(s.To, &k) || !source(s.Of, &k) && !destination(s.Of, &k) {
		return k, false
	}
	if !s.Routes {
		k.Route = Route{}
	}
	for _, e := range []*End{&k.Source, &k.Destination} {
		switch {
		case s.By == ByPod:
		case s.By == ByNamespace && e.Namespace != "":
			*e = End{Namespace: e.Namespace, Kind: KindNamespace, Name: e.Namespace, Meshed: e.Meshed, Observed: e.Observed}
		default:
			e.Pod, e.Node = "", ""
		}
	}
	return k, true
}

// Reports reports whether the end's agent reports its traffic.
func (e *End) Reports() bool { return e.Meshed || e.Observed }

func (s *Selection) counts(k *Key) bool {
	reports := s.Reports
	if reports == nil {
		reports = (*End).Reports
	}
	if s.InsteadOf == nil {
		return preferred(k, s.Side, reports)
	}
	return !preferred(k, s.Side, reports) && preferred(k, s.Side, func(e *End) bool {
		return reports(e) && !s.InsteadOf[e.Node]
	})
}

// preferred returns whether a key counts where each call is to count once. A call between
// pods of two agents has a key at each of them. side is the one that is preferred:
// Outbound the client's, Inbound the server's.
//
// A call that reaches a server without an identity did not come through its client's
// agent, and a call to such a server did not pass an agent there: it is counted whatever
// the side.
func preferred(k *Key, side mesh.Direction, reports func(*End) bool) bool {
	if k.Direction == side {
		return true
	}
	switch k.TLS {
	case tap.TLSTrue, tap.TLSSameNode, tap.TLSNotProxied:
		return !reports(k.peer())
	}
	return true
}

func source(r filter.Resource, k *Key) bool {
	return r.Kind != filter.KindService && matches(r, &k.Source)
}

func destination(r filter.Resource, k *Key) bool {
	named := k.Service != Service{}
	switch {
	case r.Kind == filter.KindService:
		return named && isOr(r.Name, k.Service.Name) && isOr(r.Namespace, k.Service.Namespace)
	case named && k.Destination.Kind == "" && r.Kind == "":
		return isOr(r.Namespace, k.Service.Namespace)
	case named && k.Destination.Kind == "" && r.Kind == filter.KindNamespace:
		return isOr(r.Name, k.Service.Namespace)
	}
	return matches(r, &k.Destination)
}

func matches(r filter.Resource, e *End) bool {
	if r == (filter.Resource{}) {
		return true
	}
	if !isOr(r.Namespace, e.Namespace) {
		return false
	}
	switch r.Kind {
	case "":
		return true
	case filter.KindPod:
		return e.Pod != "" && isOr(r.Name, e.Pod)
	case filter.KindNamespace:
		return e.Namespace != "" && isOr(r.Name, e.Namespace)
	}
	return e.Kind == string(r.Kind) && isOr(r.Name, e.Name)
}

// isOr reports whether got is what is wanted, "" for anything.
func isOr(want, got string) bool { return want == "" || want == got }

// Is reports whether e is r or belongs to it.
func (e *End) Is(r filter.Resource) bool { return matches(r, e) }
