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
// nothing of the response was sent. Then it ends the connections: idle ones in order, others by a
// reset. It does not wait.
func (p *Proxy) deny(denied denials) {
	if len(denied) == 0 {
		return
	}
	var all []denial
	of := func(s *request.Session) bool {
		err, is := denied[s]
		if is {
			all = append(all, denial{proxy: p, session: s, err: err})
		}
		return is
	}
	sessions := append(p.h1.Underway(of), p.h2.Underway(of)...)
	go func() {
		for i, one := range sessions {
			d := &all[i]
			d.underway = one
			if d.session.Deny() {
				p.revoked.Add(1)
				p.Log.Debug("connection ends: the policy of the pod has changed", "client", d.session.Source.Addr, "destination", d.session.Original, "cause", d.err)
			}
			d.end(true)
		}
	}()
}

// denial ends a session whose client is denied.
type denial struct {
	proxy    *Proxy
	session  *request.Session
	underway request.Underway
	err      error
}

// end ends what is under way, and the connection if it is idle. If it is not, end is called again
// after denyTime: a request that was let in before the change may be under way only then. When there is
// nothing left that could be told the reason, the connection is cut.
func (d *denial) end(first bool) {
	cut := d.underway.Rejudge(func(_ *request.Session, u destination.Underway) destination.Rejudged {
		return destination.Rejudged{Err: mesh.Fail(mesh.ReasonPolicyDenied, d.err), Rules: u.Rules}
	})
	d.proxy.cut.Add(uint64(cut))
	switch {
	case d.underway.EndIdle():
	case first || cut > 0:
		time.AfterFunc(denyTime, func() { d.end(false) })
	default:
		d.session.Revoke(mesh.ReasonPolicyDenied)
	}
}
