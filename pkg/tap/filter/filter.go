package filter

import (
	"fmt"
	"math"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Request is what a reader asks for, as typed. An empty field selects
// everything.
type Request struct {
	Target, Namespace string
	// Pods restricts Target to the pods with these UIDs; nil: all its pods.
	Pods map[string]bool
	// Selector restricts Target to the pods with these labels, if Pods is nil: see
	// ParseSelector.
	Selector string
	// To restricts traffic to that from Target to To.
	To, ToNamespace string
	Scheme          string
	Method          string // in any case
	Authority       string // exact; also compared with the SNI of a TLS connection, and with the name from DNS of others
	Path            string // prefix
	MaxRPS          float64
	View            View
	// Legs selects the proxy's own connections that carry requests, too (tap.LegOpen,
	// tap.LegClose).
	Legs bool
}

// View chooses between the two reports of traffic between two agents: the
// client's (outbound) and the server's (inbound). It matters if the reader gets
// the events of more than one node. The values are those of the node API.
type View uint8

const (
	Both       View = iota // every report
	TargetSide             // the report of the side that Target is on, like Linkerd's tap
	Once                   // the same, but only the client's report if Target is on both sides
)

// Filter matches events against a Request. Match is safe for concurrent use.
type Filter struct {
	target, to Resource
	pods       map[string]bool // UIDs of the pods of target that are matched; nil: all
	selector   Selector        // of the same pods
	directed   bool            // source is target, destination is to
	view       View
	scheme     string
	method     string
	authority  string
	path       string
	limit      *Limiter
	legs       bool
}

// New checks r and makes a Filter of it. Its errors tell the user what to type
// instead.
func New(r Request) (*Filter, error) {
	target, err := ParseResource(r.Target, r.Namespace)
	if err != nil {
		return nil, err
	}
	to, err := ParseResource(r.To, r.ToNamespace)
	if err != nil {
		return nil, fmt.Errorf("--to: %w", err)
	}
	if math.IsNaN(r.MaxRPS) || math.IsInf(r.MaxRPS, 0) || r.MaxRPS < 0 {
		return nil, fmt.Errorf("--max-rps %v: want a number of requests per second, 0 for no limit", r.MaxRPS)
	}
	f := &Filter{
		target: target, pods: r.Pods, to: to, directed: !to.all(), view: r.View,
		scheme: strings.ToLower(r.Scheme), method: strings.ToUpper(r.Method),
		authority: r.Authority, path: r.Path, legs: r.Legs,
	}
	if r.Pods == nil {
		if f.selector, err = ParseSelector(r.Selector); err != nil {
			return nil, err
		}
	}
	if r.MaxRPS > 0 {
		f.limit = NewLimiter(r.MaxRPS)
	}
	return f, nil
}

// Match reports whether the reader wants e. As in Linkerd, a target matches
// traffic to it and from it. A request within a node is reported once, as
// outbound, so Match looks for the target at both ends of each event.
func (f *Filter) Match(e *tap.Event) bool {
	if e.Side != 0 && !f.legs {
		return false
	}
	return f.matchEnds(e) && f.matchRequest(e) && (f.limit == nil || f.limit.Allow(0, e))
}

func (f *Filter) matchEnds(e *tap.Event) bool {
	source := f.target.matchSource(e) && f.selects(e.Source.Workload)
	destination := f.target.matchDestination(e) && f.selects(e.Destination.Workload)
	if f.directed {
		source, destination = source && f.to.matchDestination(e), false
	}
	switch {
	case !source && !destination:
		return false
	case f.view == Both || !reportedTwice(e):
		return true
	case e.Direction == mesh.Outbound:
		// A server's agent does not know which Service the client called, so the
		// client's report is the only one that can match.
		return source || f.target.Kind == KindService
	}
	return destination && (f.view == TargetSide || !source)
}

// Selects reports whether w is a pod of the target.
func (f *Filter) Selects(w *mesh.Workload) bool {
	return f.target.matchSource(&tap.Event{Source: tap.Peer{Workload: w}}) && f.selects(w)
}

// selects reports whether w is one of the pods that the request is restricted to.
func (f *Filter) selects(w *mesh.Workload) bool {
	if f.pods != nil {
		return w != nil && f.pods[w.UID]
	}
	return len(f.selector) == 0 || w != nil && w.Name != "" && f.selector.Matches(w.Labels)
}

// reportedTwice reports whether both sides report the traffic of e. With mutual
// TLS there is an agent on each side. A server's kernel event has a counterpart
// if the client's pod is meshed, or observed, too.
func reportedTwice(e *tap.Event) bool {
	if e.Origin == tap.FromKernel {
		w := e.Source.Workload
		return e.Direction == mesh.Inbound && w != nil && (w.Meshed || w.Observed)
	}
	return e.TLS == tap.TLSTrue
}

func (f *Filter) matchRequest(e *tap.Event) bool {
	return (f.method == "" || strings.EqualFold(f.method, e.Method)) &&
		(f.scheme == "" || f.scheme == e.Scheme) &&
		(f.path == "" || strings.HasPrefix(e.Path, f.path)) &&
		(f.authority == "" || f.authority == e.Authority || f.authority == e.SNI || f.authority == e.DNS)
}
