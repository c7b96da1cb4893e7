package l7proxy

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// resend is what an HTTP/1 request needs to be sent again.
type resend struct {
	wanted  bool // the routes may ask for it
	keep    bool // what goes of the body is kept, for that or for a mirror
	retries int
	method  string
	body    retry.Replay // what the pump has sent
	copied  int          // of body, in h1.out
}

// attempts sends the request to the endpoint that was picked first, and to
// others while it fails and may be sent again. The choice is of the last one,
// and is to be Done with.
func (d *h1) attempts(kind http1.Kind) (*Choice, head) {
	d.again = resend{wanted: d.plan.policy().Resends()}
	d.again.keep = d.again.wanted || len(d.copy.to) > 0
	if d.again.wanted {
		d.again.method = text(d.req.Method())
		if !d.body.Done() {
			d.again.method = strings.Clone(d.again.method) // the body comes over it
		}
	}
	for choice := &d.first; ; {
		response := d.attempt(choice, kind)
		next := d.s.another(choice, response.unreached, &d.tried)
		if next == nil && d.again.wanted {
			next = d.retry(choice, &response, kind)
		}
		if next == nil {
			return choice, response
		}
		choice.failed(response.reason)
		d.abandon(response)
		choice.Done()
		choice = next
	}
}

// attempt sends the request to an endpoint and reads the head of the response.
func (d *h1) attempt(choice *Choice, kind http1.Kind) (h head) {
	d.by = d.until()
	if h.up, h.pump, h.err = d.send(choice); h.err != nil {
		if h.unreached = unsent(h.err); h.unreached == mesh.ReasonNone {
			choice.failed(reasonOf(h.err)) // of the others Dial has told
		}
		return h
	}
	h.length, h.reason = d.readResponse(h.up, kind)
	why := d.unreached(choice, h)
	if h.pump == nil {
		h.unreached = why
	}
	if h.reason == mesh.ReasonNone {
		choice.answered(d.resp.Status())
		choice.failed(why)
	}
	return h
}

// retry chooses an endpoint for another attempt where the routes want one, after
// they want to wait; nil: the response stands.
func (d *h1) retry(failed *Choice, h *head, kind http1.Kind) *Choice {
	policy := d.plan.policy()
	a := retry.Attempt{
		GRPC: kind&http1.KindGRPC != 0, Method: d.again.method,
		Retries: d.again.retries, Answered: d.interim, Body: true,
	}
	if !d.describe(&a, h) || policy.Decide(&a) != retry.Retry {
		return nil
	}
	wait := policy.Backoff(a.Retries, rand.Uint64())
	if !d.deadline.IsZero() && time.Until(d.deadline) <= wait {
		return nil
	}
	if !d.plan.routing.budget.Retry(balance.Now()) {
		d.s.proxy.retriesRefused.Add(1)
		return nil
	}
	switch {
	case !h.pump.halt():
		return nil
	case h.pump != nil && !d.again.body.Whole():
		if !d.body.Done() {
			h.pump = d.startPump(h.up)
		}
		return nil
	}
	d.endWait()
	time.Sleep(wait)
	next, err := d.s.pickOther(d.tried.to, failed.Peer.Addr)
	if err != nil {
		return nil
	}
	d.again.retries++
	d.x.Retried()
	body := d.again.body.Body()
	d.out = append(d.out, body[d.again.copied:]...)
	d.again.copied = len(body)
	return next
}

// describe says how an attempt failed; false: it did not, or not in a way that
// could be retried.
func (d *h1) describe(a *retry.Attempt, h *head) bool {
	reason := h.reason
	if h.err != nil {
		reason = reasonOf(h.err)
	}
	switch {
	case reason == mesh.ReasonTimeout:
		a.Cause = retry.TimedOut
	case h.err != nil && unsent(h.err) != mesh.ReasonNone:
		a.Cause = retry.Unsent
	case reason == mesh.ReasonUpstreamReset, reason == mesh.ReasonAgentDown:
		a.Cause = retry.Broken
	case reason != mesh.ReasonNone:
		return false
	default:
		a.Cause, a.Status, a.GRPCStatus = retry.Status, d.resp.Status(), -1
		if a.GRPC {
			a.GRPCStatus = grpcStatusOf(text(d.resp.Get("grpc-status")))
		}
	}
	return true
}

// abandon is done with an attempt that another one follows. The connection can
// be used again where the whole response is there.
func (d *h1) abandon(h head) {
	d.endWait()
	if h.up == nil {
		return
	}
	if h.err == nil && h.reason == mesh.ReasonNone && h.pump == nil && d.resp.KeepAlive() {
		body := d.resp.Body()
		n, _, err := body.Next(h.up.in[h.length:])
		if err == nil && body.Done() {
			h.up.in = h.up.in[h.length+n:]
			d.release(h.up, true)
			return
		}
	}
	h.up.conn.Close()
}

// until is when the attempt that begins now has to be over; zero: whenever.
func (d *h1) until() time.Time {
	until := d.deadline
	if limit := d.plan.timeouts().BackendRequest; limit > 0 {
		if at := time.Now().Add(limit); until.IsZero() || at.Before(until) {
			until = at
		}
	}
	return until
}

func (d *h1) dialContext() (context.Context, context.CancelFunc) {
	if !d.by.IsZero() {
		return context.WithDeadline(d.ctx, d.by)
	}
	return d.ctx, func() {}
}

// orLate is err, of a connection that was not made, or that the time for it is
// over.
func (d *h1) orLate(err error) error {
	if !d.by.IsZero() && !time.Now().Before(d.by) {
		return mesh.Fail(mesh.ReasonTimeout, err)
	}
	return err
}

// limit bounds what the endpoint may take over the attempt.
func (d *h1) limit(up *h1Upstream) {
	if !d.by.IsZero() {
		up.timed = true
		_ = up.conn.SetDeadline(d.by)
	}
}

func (d *h1) unlimit(up *h1Upstream) {
	if up.timed {
		up.timed = false
		_ = up.conn.SetDeadline(time.Time{})
	}
}
