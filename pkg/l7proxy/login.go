package l7proxy

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
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

// bind gives the session connections of its own from now on.
func (s *Session) bind(draw uint64) {
	if draw == 0 { // no route had a say
		draw = rand.Uint64()
	}
	if s.login.Load() == nil {
		s.login.CompareAndSwap(nil, &login{draw: draw})
	}
}

// bound reports whether the session has connections of its own.
func (s *Session) bound() bool { return s.login.Load() != nil }

// draw is any 64 bits for the routes to choose a backend by.
func (s *Session) draw() uint64 {
	if l := s.login.Load(); l != nil {
		return l.draw
	}
	return rand.Uint64()
}

// boundTo says which endpoints the session, which is bound, has connections of its
// own to.
func (s *Session) boundTo(at []netip.AddrPort) {
	if l := s.login.Load(); !slices.Equal(l.at, at) {
		s.login.Store(&login{draw: l.draw, at: at})
	}
}

// pickBound chooses the endpoint of the place that the session has a connection of
// its own to, ejected or not: the login is there.
func (s *Session) pickBound(to *place, exclude []netip.AddrPort) (balance.Ticket, bool) {
	l := s.login.Load()
	if l == nil {
		return balance.Ticket{}, false
	}
	for _, addr := range l.at {
		if slices.Contains(exclude, addr) {
			continue
		}
		if ticket, ok := to.balancer.PickAt(balance.Now(), addr); ok {
			return ticket, true
		}
	}
	return balance.Ticket{}, false
}

// ownAtMost bounds the connections that an HTTP/1 session keeps to itself.
const ownAtMost = 8

// keepOwn keeps a connection for the session's next request.
func (d *h1) keepOwn(up *h1Upstream) {
	up.next, d.own = d.own, up
	last := up
	for n := 1; n < ownAtMost && last != nil; n++ {
		last = last.next
	}
	if last != nil {
		closeOwn(last.next)
		last.next = nil
	}
}

// takeOwn is the session's own connection for key that is still alive, nil if there
// is none.
func (d *h1) takeOwn(key PoolKey) *h1Upstream {
	for at := &d.own; *at != nil; {
		up := *at
		if up.key != key {
			at = &up.next
			continue
		}
		*at, up.next = up.next, nil
		if alive(up.conn) {
			return up
		}
		up.conn.Close()
	}
	return nil
}

// lookAtOwn drops what is not alive, before an endpoint is picked.
func (d *h1) lookAtOwn() {
	var at []netip.AddrPort
	for p := &d.own; *p != nil; {
		up := *p
		if !alive(up.conn) {
			up.conn.Close()
			*p = up.next
			continue
		}
		at, p = append(at, up.key.Addr), &up.next
	}
	d.s.boundTo(at)
}

func closeOwn(up *h1Upstream) {
	for ; up != nil; up = up.next {
		up.conn.Close()
	}
}

// lookAtOwn is h1's. The caller holds picking.
func (srv *h2server) lookAtOwn() {
	srv.session.boundTo(srv.pool.connected(srv.private))
}

// connected are the endpoints of those keys that there are connections for, or
// dials.
func (p *h2Pool) connected(keys []PoolKey) (at []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		if len(p.conns[key])+len(p.dials[key]) > 0 {
			at = append(at, key.Addr)
		}
	}
	return at
}

// offersLogin reports whether the head of a response, which has that status, offers
// to authenticate the connection.
func offersLogin(status int, fields []http2.Field) bool {
	if status != 401 && status != 407 {
		return false
	}
	return slices.ContainsFunc(fields, func(f http2.Field) bool {
		return (f.Name == "www-authenticate" || f.Name == "proxy-authenticate") && http1.ChallengeBinds(f.Value)
	})
}
