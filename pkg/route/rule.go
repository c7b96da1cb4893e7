package route

import (
	"math/bits"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// Rule is a compiled rule of a route. It is immutable.
type Rule struct {
	Route    *mesh.Route // for metrics, and to tell people
	Index    int         // in Route.Rules
	Name     string      // "" where the route gives none
	Label    string      // Name, or Index in digits: for people and metrics
	Timeouts mesh.RouteTimeouts
	Retry    *retry.Policy // never nil

	actions []Action // with a weight above 0; at least one
	total   uint64   // of the weights
}

// Kind is what an Action does with a request.
type Kind uint8

const (
	Forward  Kind = iota // to Action.Backend
	Redirect             // answer Action.Status with a Location
	Refuse               // answer 500, for gRPC UNAVAILABLE
)

// Action is what becomes of a request: the rule's filters and the chosen
// backend's, merged. It is immutable.
type Action struct {
	Kind    Kind
	Backend mesh.ServicePortRef // of Forward
	At      int                 // of Forward: the index of Backend in Table.Backends
	Status  int                 // of Redirect
	Why     string              // of Refuse
	Host    string              // new value of Host and :authority, "" keeps it

	Request, Response Edits
	Mirrors           []Mirror
	Fault             *Fault // nil: none; it comes before anything else

	path     mesh.PathRewrite
	redirect *mesh.RouteRedirect
	upTo     uint64 // sum of the weights up to this one
}

// Choose picks an action by the backends' weights; random is any 64 bits.
func (r *Rule) Choose(random uint64) *Action {
	if len(r.actions) > 1 {
		at, _ := bits.Mul64(random, r.total)
		for i := range r.actions {
			if at < r.actions[i].upTo {
				return &r.actions[i]
			}
		}
	}
	return &r.actions[0]
}

// Mirror is a place that gets copies of requests.
type Mirror struct {
	Backend mesh.ServicePortRef
	At      int // the index of Backend in Table.Backends
	share   mesh.Fraction
}

// Wants reports whether a request is copied; random is any 64 bits, others for
// each mirror.
func (m *Mirror) Wants(random uint64) bool { return within(m.share, random) }

// Fault makes requests fail on purpose.
type Fault struct{ spec mesh.RouteFault }

// Delay is how long to hold a request back; random is any 64 bits.
func (f *Fault) Delay(random uint64) time.Duration {
	if within(f.spec.DelayShare, random) {
		return f.spec.Delay
	}
	return 0
}

// Abort is the status to answer a request with, for gRPC calls the code of
// grpc-status, and whether to; random is any 64 bits.
func (f *Fault) Abort(grpc bool, random uint64) (status int, abort bool) {
	status = f.spec.AbortStatus
	if grpc {
		status = f.spec.AbortGRPC
	}
	return status, status != 0 && within(f.spec.AbortShare, random)
}

// within reports whether a random number falls within a share of all.
func within(share mesh.Fraction, random uint64) bool {
	if share.Denominator == 0 {
		return true
	}
	at, _ := bits.Mul64(random, uint64(share.Denominator))
	return at < uint64(share.Numerator)
}
