package l7proxy

import (
	"context"
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
)

// furtherEndpoints is how many other endpoints are tried when one cannot be
// reached.
const furtherEndpoints = 2

// attempts are the endpoints that were tried for one request or connection.
type attempts struct {
	to    *place // where the routes send it, nil where they do not say
	n     int
	addrs [furtherEndpoints]netip.AddrPort
}

// another chooses an endpoint in place of one that could not be reached; nil if
// there is none, or enough were tried. The choice that failed is still to be
// Done with.
func (s *Session) another(failed *Choice, why mesh.Reason, tried *attempts) *Choice {
	if !failed.balanced() || !elsewhere(why) && why != mesh.ReasonOverload || tried.n == len(tried.addrs) {
		return nil
	}
	tried.addrs[tried.n] = failed.Peer.Addr
	tried.n++
	next, err := s.Pick(tried.to, tried.addrs[:tried.n]...)
	if err != nil {
		return nil
	}
	return next
}

// pickOther chooses another endpoint than not, or that one again where there is
// no other.
func (s *Session) pickOther(to *place, not netip.AddrPort) (*Choice, error) {
	if c, err := s.Pick(to, not); err == nil {
		return c, nil
	}
	return s.Pick(to)
}

// elsewhere reports whether a failure to connect is the endpoint's or its
// node's, so that another may do.
func elsewhere(why mesh.Reason) bool {
	switch why {
	case mesh.ReasonTLSPeer, mesh.ReasonTLSIdentity, mesh.ReasonTLSFailed, mesh.ReasonTLSRefused, mesh.ReasonAgentDown:
		return true
	}
	return why.Unreached()
}

// reach picks an endpoint and connects to it, or to another where it cannot be
// reached: nothing was sent yet. The choice is nil when none could be made, and
// is to be Done with only when the error is nil.
func (s *Session) reach(ctx context.Context, alpn string) (*Choice, Conn, error) {
	choice, err := s.Pick(nil)
	if err != nil {
		return nil, nil, err
	}
	for tried := (attempts{}); ; {
		conn, err := s.Dial(ctx, choice, alpn)
		if err == nil {
			return choice, conn, nil
		}
		next := s.another(choice, reasonOf(err), &tried)
		choice.Done()
		if next == nil {
			return choice, nil, err
		}
		choice = next
	}
}
