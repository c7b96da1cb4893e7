package route

import (
	"math/bits"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// Rule is a compiled rule of a route. It is immutable.
type Rule struct {
	Route    *mesh.Route // for metrics and messages
	Index    int         // in Route.Rules
	Name     string      // "" if the route gives none
	Label    string      // Name, or Index in digits: for metrics and messages
	Timeouts mesh.RouteTimeouts
	Retry    *retry.Policy // never nil

	actions []Action // those with a weight above 0; at least one
	total   uint64   // sum of the weights
}

// Kind is what an Action does with a request.
type Kind uint8

const (
	Forward  Kind = iota // to Action.Backend
	Redirect             // answer Action.Status with a Location
	Refuse               // answer 500, for gRPC UNAVAILABLE
)

// Action says what to do with a request. It merges the filters of the rule and
// of the chosen backend. It is immutable.
type Action struct {
	Kind         Kind
	Backend      mesh.ServicePortRef // for Forward
	BackendIndex int                 // for Forward: index of Backend in Table.Backends
	Original     bool                // for Forward: to where the client wanted to connect to, and not to Backend
	Status       int                 // for Redirect
	Why          string              // for Refuse: what is wrong with the route
	Host         string              // new value of Host and :authority; "" keeps the old one

	Request, Response Edits
	Mirrors           []Mirror
	Fault             *Fault             // applied before everything else; nil: none
	External          *mesh.ExternalAuth // has to allow the request as the client has sent it; nil: nobody is asked

	path     mesh.PathRewrite
	redirect *mesh.RouteRedirect
	upTo     uint64 // sum of the weights up to and including this action
}

// Choose picks an action by the weights of the backends. random is 64 random
// bits.
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

// Mirror is a backend that gets copies of requests.
type Mirror struct {
	Backend      mesh.ServicePortRef
	BackendIndex int // index of Backend in Table.Backends
	share        mesh.Fraction
}

// Wants reports whether to copy a request. random is 64 random bits; each mirror
// needs its own.
func (m *Mirror) Wants(random uint64) bool { return within(m.share, random) }

// Fault makes requests fail on purpose.
type Fault struct{ spec mesh.RouteFault }

// Delay returns how long to delay a request. random is 64 random bits.
func (f *Fault) Delay(random uint64) time.Duration {
	if within(f.spec.DelayShare, random) {
		return f.spec.Delay
	}
	return 0
}

// Abort reports whether to answer a request with a failure, and with which HTTP
// status or, for gRPC calls, which grpc-status. random is 64 random bits.
func (f *Fault) Abort(grpc bool, random uint64) (status int, abort bool) {
	status = f.spec.AbortStatus
	if grpc {
		status = f.spec.AbortGRPC
	}
	return status, status != 0 && within(f.spec.AbortShare, random)
}

// within reports whether a random number falls into the given share of all
// 64-bit numbers.
func within(share mesh.Fraction, random uint64) bool {
	if share.Denominator == 0 {
		return true
	}
	at, _ := bits.Mul64(random, uint64(share.Denominator))
	return at < uint64(share.Numerator)
}
