package h1

import (
	"net/http"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// An agent that drains closes the idle connections of other agents, and so does one whose pod does
// not let their client in any more. A request may be on its way on one of them, and the agent that
// has sent it could not tell that it was not read: it would have to answer its client with 502. So
// the agent that closes says farewell: a response that no request has asked for, whose reason is
// marked as unsent (RFC 9112 §9.5 lets a server close at any time, and RFC 9110 §15.5.9 has the
// like in status 408). An agent that finds it on an idle connection drops the connection. One that
// gets it as the response to a request sends the request on another connection, where it is
// answered with the reason if the client is not let in.

// farewell says that the session reads no further request. It does so only to an agent, and
// only when the proxy drains or the client is denied.
func (d *session) farewell() {
	denied := d.s.Denied()
	if d.exchanges == 0 || d.s.Lifetime.Draining.Err() == nil && !denied || d.s.Direction != mesh.Inbound || d.s.TLS != tap.TLSTrue {
		return
	}
	why := mesh.ReasonUpstreamReset
	if denied {
		why = mesh.ReasonPolicyDenied // it is what the client gets of a request that cannot be sent again
	}
	answer := reply.Of(why)
	answer.Unsent = true
	d.out = reply.AppendHTTP1(d.out[:0], &answer, 0, true)
	if d.write(d.out, nil, true) == nil {
		d.linger()
	}
}

// unread reports whether the response in d.resp is a farewell: the agent of the endpoint's
// node has not read the request, all of which is still in d.out.
func (d *sender) unread(a *endpoints.Attempt, h *head) bool {
	if h.reason != mesh.ReasonNone || h.pump != nil || !h.up.Reused || d.interim || a.Found.TLS != tap.TLSTrue {
		return false
	}
	status := d.resp.Status()
	if status != http.StatusBadGateway && status != http.StatusForbidden {
		return false
	}
	why, unsent := reply.ParseReason(unsafeString(d.resp.Get(reply.ReasonHeader)))
	return unsent && (why == mesh.ReasonUpstreamReset || why == mesh.ReasonPolicyDenied)
}
