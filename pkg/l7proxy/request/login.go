package request

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// NTLM and Negotiate authenticate a connection (RFC 4559 §6): what follows on it is
// answered as to that user. From the first request with such credentials on, or the
// first response that offers them, a session has connections to endpoints of its
// own, and none that it shares has ever carried credentials. The agents at both ends
// do so: the client's connection, that between the agents and the application's
// belong together, and end together.

// login is of such a session. It is immutable.
type login struct {
	draw uint64           // in place of chance where routes split by weight: the same backend each time
	at   []netip.AddrPort // endpoints that the session has connections of its own to
}

// Bind gives the session connections of its own from now on.
func (s *Session) Bind(draw uint64) {
	if draw == 0 { // no route had a say
		draw = rand.Uint64()
	}
	if s.login.Load() == nil {
		s.login.CompareAndSwap(nil, &login{draw: draw})
	}
}

// Bound reports whether the session has connections of its own.
func (s *Session) Bound() bool { return s.login.Load() != nil }

// Draw is any 64 bits for the routes to choose a backend by.
func (s *Session) Draw() uint64 {
	if l := s.login.Load(); l != nil {
		return l.draw
	}
	return rand.Uint64()
}

// BoundTo says which endpoints the session, which is bound, has connections of its
// own to.
func (s *Session) BoundTo(at []netip.AddrPort) {
	if l := s.login.Load(); !slices.Equal(l.at, at) {
		s.login.Store(&login{draw: l.draw, at: at})
	}
}

// preferred are the endpoints that the session has connections of its own to.
func (s *Session) preferred() []netip.AddrPort {
	if l := s.login.Load(); l != nil {
		return l.at
	}
	return nil
}

// OffersLogin reports whether the head of a response, which has that status, offers
// to authenticate the connection.
func OffersLogin(status int, fields []http2.Field) bool {
	if status != 401 && status != 407 {
		return false
	}
	return slices.ContainsFunc(fields, func(f http2.Field) bool {
		return (f.Name == "www-authenticate" || f.Name == "proxy-authenticate") && http1.ChallengeBinds(f.Value)
	})
}
