package request

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/tap"
)

// furtherEndpoints is the number of other endpoints that are tried if one cannot be
// reached.
const furtherEndpoints = 2

// Tried are the endpoints that were tried for one request or connection.
type Tried struct {
	Backend *destination.Backend // chosen by the routes; nil: no route applies
	n       int
	addrs   [furtherEndpoints]netip.AddrPort
}

// Failover chooses another endpoint after one that could not be reached. It returns nil
// if there is none, or if enough were tried. The caller must still call Done of the
// failed attempt.
func (s *Session) Failover(failed *endpoints.Attempt, why mesh.Reason, tried *Tried) *endpoints.Attempt {
	return s.failover(failed, why, tried, nil)
}

func (s *Session) failover(failed *endpoints.Attempt, why mesh.Reason, tried *Tried, said *destination.Said) *endpoints.Attempt {
	if !failed.Balanced || !upstream.TriesNextEndpoint(why) && why != mesh.ReasonOverload || tried.n == len(tried.addrs) {
		return nil
	}
	tried.addrs[tried.n] = failed.Peer.Addr
	tried.n++
	next := new(endpoints.Attempt)
	if s.pick(next, nil, said, tried.Backend, tried.addrs[:tried.n]...) != nil {
		return nil
	}
	return next
}

// PickOther chooses another endpoint than not, or the same one if there is no other.
func (s *Session) PickOther(to *destination.Backend, not netip.AddrPort) (*endpoints.Attempt, error) {
	a := new(endpoints.Attempt)
	if s.Pick(a, to, not) == nil {
		return a, nil
	}
	a = new(endpoints.Attempt)
	return a, s.Pick(a, to)
}

// Miss is a response that the agent of the endpoint's node made because it could not pass
// the request to the application, or because the application's pod has ended. The zero
// value is a response of the application.
type Miss struct {
	Reason mesh.Reason
	unsent bool // no application has seen the request
}

// MovesOn reports whether a request with this method may be sent to another endpoint at
// once: no application has seen it, or the pod has ended and the request can be repeated.
func (m Miss) MovesOn(method string) bool {
	return m.unsent || m.Reason == mesh.ReasonPodGone && retry.Idempotent(method)
}

// Missed judges a response of the endpoint. said is the value of the response's
// underlane-reason field. Only an agent can set it: agents remove the field from the
// responses of applications.
func Missed(a *endpoints.Attempt, grpc bool, status int, said string) Miss {
	if !a.Balanced || a.Found.TLS != tap.TLSTrue || !grpc && status < http.StatusInternalServerError {
		return Miss{}
	}
	why, unsent := reply.ParseReason(said)
	if unsent = unsent || why.NotReached(); unsent || why == mesh.ReasonPodGone {
		return Miss{why, unsent}
	}
	return Miss{}
}

// Unreached returns the reply to a request for which the endpoint could not be reached. An
// agent tells the client's agent that the request was not sent, where the reason leaves
// that open.
func (s *Session) Unreached(why mesh.Reason) reply.Reply {
	r := reply.Of(why)
	r.Unsent = s.Direction == mesh.Inbound && why == mesh.ReasonPodGone
	return r
}

// Reach picks an endpoint and opens an opaque connection to it. If it cannot be reached, Reach tries others:
// nothing was sent yet. The attempt is nil if no endpoint could be picked. The caller must
// call Done of the attempt only if the error is nil. said is what the client has said, if
// that is known already.
func (s *Session) Reach(ctx context.Context, said destination.Said) (*endpoints.Attempt, conn.Conn, error) {
	a := new(endpoints.Attempt)
	if err := s.pick(a, nil, &said, nil); err != nil {
		return nil, nil, err
	}
	for tried := (Tried{}); ; {
		c, err := s.DialOpaque(ctx, a)
		if err == nil {
			return a, c, nil
		}
		next := s.failover(a, upstream.ReasonOf(err), &tried, &said)
		a.Done()
		if next == nil {
			return a, nil, err
		}
		a = next
	}
}
