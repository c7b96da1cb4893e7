package request

import (
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
)

// Tokens returns what judges the tokens of the session's next request, or nil if nothing
// does. If the returned reply has a status, the proxy answers the request with it: the client
// may not connect. x is told by which policy.
func (s *Session) Tokens(x *Exchange, asked destination.Asker) (*destination.Tokens, reply.Reply) {
	t, judged, err := s.Target.Tokens(&s.Source, asked)
	if err != nil {
		x.Judged(judged)
		return nil, reply.Of(upstream.ReasonOf(err))
	}
	return t, reply.Reply{}
}

// Authenticate judges the tokens of a request. If the returned reply has a status, the
// proxy answers the request with it.
func (s *Session) Authenticate(t *destination.Tokens, h jwt.Head) (jwt.Judgement, reply.Reply) {
	j := t.Judge(h, s.From)
	if j.Failure == jwt.Good {
		return j, reply.Reply{}
	}
	answer := reply.Of(mesh.ReasonBadToken)
	answer.Detail = j.Failure.String()
	return j, answer
}

// Bear makes the token's claims those of a request that policies judge; nil: it has none.
func Bear(r *authz.Request, t *jwt.Token) {
	if t != nil {
		r.Principal, r.Claims = t.Principal, t
	}
}
