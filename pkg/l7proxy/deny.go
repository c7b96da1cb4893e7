package l7proxy

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// denials are the inbound sessions of requests whose clients may not connect any more, and why.
type denials map[*request.Session]error

// denyTime is the time that the reason has to reach the client before its connection is cut. The
// client's agent needs it to tell a refusal from a server that is gone.
const denyTime = 250 * time.Millisecond

// deny ends the requests under way on sessions, as refused ones end: with the reason, where
// nothing of the response was sent. It cuts the connections then; one of HTTP/1 without a request
// at once. It does not wait.
func (p *Proxy) deny(denied denials) {
	if len(denied) == 0 {
		return
	}
	var order []*request.Session // of each element of sessions
	of := func(s *request.Session) bool {
		_, is := denied[s]
		if is {
			order = append(order, s)
		}
		return is
	}
	sessions := append(p.h1.Underway(of), p.h2.Underway(of)...)
	go func() {
		for i, one := range sessions {
			s, err := order[i], denied[order[i]]
			cut := one.Rejudge(func(_ *request.Session, u destination.Underway) destination.Rejudged {
				return destination.Rejudged{Err: mesh.Fail(mesh.ReasonPolicyDenied, err), Rules: u.Rules}
			})
			p.cut.Add(uint64(cut))
			p.revoked.Add(1)
			p.Log.Debug("connection cut: the policy of the pod has changed", "client", s.Source.Addr, "destination", s.Original, "requests", cut, "cause", err)
			switch {
			case s.EndClient != nil: // of HTTP/2: no further request comes, and one that is just coming is refused
				s.EndClient()
			case cut == 0:
				s.Revoke(mesh.ReasonPolicyDenied)
				continue
			}
			time.AfterFunc(denyTime, func() { s.Revoke(mesh.ReasonPolicyDenied) })
		}
	}()
}
