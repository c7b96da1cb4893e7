package filter

import (
	"fmt"
	"math"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Request is what a reader asks for, as typed. Empty fields select all.
type Request struct {
	Target, Namespace string
	// Pods are the UIDs of those pods of Target that count; nil is all.
	Pods map[string]bool
	// To narrows Target: then the source is Target and the destination To.
	To, ToNamespace string
	Scheme          string
	Method          string // any case
	Authority       string // exact; a TLS connection's SNI counts as one
	Path            string // prefix
	MaxRPS          float64
	View            View
}

// View chooses among the two reports of what goes between two agents: the
// client's (outbound) and the server's (inbound). It matters where more than one
// node is listened to. The values are those of the node API.
type View uint8

const (
	Both       View = iota // every report
	TargetSide             // that of the side that Target is on, as Linkerd's tap
	Once                   // the same, and the client's when Target is on both sides
)

// Filter matches events against a Request. Match may be called from many
// goroutines at once.
type Filter struct {
	target, to Resource
	pods       map[string]bool // of target; nil: all
	directed   bool            // source is target, destination is to
	view       View
	scheme     string
	method     string
	authority  string
	path       string
	limit      *Limiter
}

// New checks r and makes its Filter.
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
		authority: r.Authority, path: r.Path,
	}
	if r.MaxRPS > 0 {
		f.limit = NewLimiter(r.MaxRPS)
	}
	return f, nil
}

// Match reports whether the reader wants e. As with Linkerd, a target matches
// traffic in and out of it; our node proxy reports a same-node request once,
// outbound, so a target is looked for at both ends of any event.
func (f *Filter) Match(e *tap.Event) bool {
	return f.matchEnds(e) && f.matchRequest(e) && (f.limit == nil || f.limit.Allow(0, e))
}

func (f *Filter) matchEnds(e *tap.Event) bool {
	source := f.target.matchSource(e) && f.counts(e.Source.Workload)
	destination := f.target.matchDestination(e) && f.counts(e.Destination.Workload)
	if f.directed {
		source, destination = source && f.to.matchDestination(e), false
	}
	switch {
	case !source && !destination:
		return false
	case f.view == Both || !reportedTwice(e):
		return true
	case e.Direction == mesh.Outbound:
		// No server's agent knows which service its client meant.
		return source || f.target.Kind == KindService
	}
	return destination && (f.view == TargetSide || !source)
}

// counts reports whether w is one of the target's pods that count.
func (f *Filter) counts(w *mesh.Workload) bool {
	return f.pods == nil || w != nil && f.pods[w.UID]
}

// reportedTwice: mutual TLS is between two agents. Of what only kernels saw, the
// server's report has another when the client's pod is meshed too.
func reportedTwice(e *tap.Event) bool {
	if e.Origin == tap.FromKernel {
		return e.Direction == mesh.Inbound && e.Source.Workload != nil && e.Source.Workload.Meshed
	}
	return e.TLS == tap.TLSTrue
}

func (f *Filter) matchRequest(e *tap.Event) bool {
	return (f.method == "" || strings.EqualFold(f.method, e.Method)) &&
		(f.scheme == "" || f.scheme == e.Scheme) &&
		(f.path == "" || strings.HasPrefix(e.Path, f.path)) &&
		(f.authority == "" || f.authority == e.Authority || f.authority == e.SNI)
}
