package request

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// NTLM and Negotiate authenticate a connection (RFC 4559 §6): the server answers all
// later requests on the connection as those of that user. From the first request with
// such credentials on, or from the first response that offers them, a session uses
// private connections to endpoints. Shared connections therefore never carry such
// credentials. The agents of both nodes do this: the client's connection, the one
// between the agents and the one to the application belong together and end together.

// loginState says whether a session has a login, and where.
type loginState struct {
	login atomic.Pointer[login] // nil: the session uses shared connections
}

// login is a login of a session. It is immutable.
type login struct {
	draw uint64           // used instead of a random number in weighted routes, so that they choose the same backend each time
	at   []netip.AddrPort // endpoints to which the session has private connections
}

// BindLogin makes the session use private connections from now on. draw is the number
// by which the routes chose the backend; 0: there was none.
func (s *loginState) BindLogin(draw uint64) {
	if draw == 0 { // no route applied
		draw = rand.Uint64()
	}
	if s.login.Load() == nil {
		s.login.CompareAndSwap(nil, &login{draw: draw})
	}
}

// HasLogin reports whether the session uses private connections.
func (s *loginState) HasLogin() bool { return s.login.Load() != nil }

// RouteRandom returns 64 random bits by which the routes choose a backend. They are the
// same for all requests of a session with a login.
func (s *loginState) RouteRandom() uint64 {
	if l := s.login.Load(); l != nil {
		return l.draw
	}
	return rand.Uint64()
}

// SetLoginEndpoints sets the endpoints to which a session with a login has private
// connections.
func (s *loginState) SetLoginEndpoints(at []netip.AddrPort) {
	if l := s.login.Load(); !slices.Equal(l.at, at) {
		s.login.Store(&login{draw: l.draw, at: at})
	}
}

// preferred returns the endpoints to which the session has private connections.
func (s *loginState) preferred() []netip.AddrPort {
	if l := s.login.Load(); l != nil {
		return l.at
	}
	return nil
}

// OffersLogin reports whether a response with this status and these header fields offers
// to authenticate the connection.
func OffersLogin(status int, fields []http2.Field) bool {
	if status != 401 && status != 407 {
		return false
	}
	return slices.ContainsFunc(fields, func(f http2.Field) bool {
		return (f.Name == "www-authenticate" || f.Name == "proxy-authenticate") && http1.ChallengeBinds(f.Value)
	})
}
