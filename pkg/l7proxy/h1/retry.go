package h1

import (
	"context"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/monotime"
	"github.com/underlane/underlane/pkg/retry"
)

// retryState is what is needed to send the request again.
type retryState struct {
	wanted bool // the route may ask for a retry
	keep   bool // the bytes of the body are kept, for a retry or a mirror
	done   request.Retries
	method string       // of the request. d.req has it no more after a part of the body was read
	body   retry.Replay // the part of the body that the pump has sent
	copied int          // number of bytes of body that are in messages.out
}

// attempts sends the request to the endpoint that was chosen first, and to others while
// it fails and may be sent again. It returns the last attempt, whose Done the caller must
// call.
func (d *sender) attempts(kind http1.Kind) (*endpoints.Attempt, head) {
	d.retry = retryState{wanted: d.plan.Policy().RetriesSent(), method: unsafeString(d.req.Method())}
	d.retry.keep = d.retry.wanted || len(d.mirror.to) > 0
	if !d.body.Done() {
		// The head is gone when the rest of the body is read (readBody): its buffer may serve
		// another session then.
		d.retry.method = strings.Clone(d.retry.method)
	}
	for a := &d.first; ; {
		response := d.attempt(a, kind)
		ended := d.x.Elapsed()
		next := d.s.Failover(a, response.unreached, &d.tried)
		if next == nil && d.retry.wanted {
			next = d.again(a, &response, kind)
		}
		if next == nil {
			return a, response
		}
		a.Failed(response.reason)
		d.trace(a, &response, ended)
		d.abandon(response)
		a.Done()
		a = next
	}
}

// trace records an attempt that another one follows.
func (d *sender) trace(a *endpoints.Attempt, h *head, ended time.Duration) {
	switch {
	case ended == 0: // the request is not sampled
	case h.err != nil:
		d.x.Attempted(a, ended, 0, -1, upstream.ReasonOf(h.err))
	case h.reason != mesh.ReasonNone:
		d.x.Attempted(a, ended, 0, -1, h.reason)
	default:
		d.x.Attempted(a, ended, d.resp.Status(), reply.GRPCStatus(unsafeString(d.resp.Get("grpc-status"))), h.unreached)
	}
}

// attempt sends the request to an endpoint, and reads the head of the response.
func (d *sender) attempt(a *endpoints.Attempt, kind http1.Kind) (h head) {
	d.attemptDeadline = d.until()
	for {
		if h.up, h.pump, h.err = d.send(a); h.err != nil {
			if h.unreached = unsent(h.err); h.unreached == mesh.ReasonNone {
				a.Failed(upstream.ReasonOf(h.err)) // failures to connect were reported by the dial
			}
			return h
		}
		d.readResponse(&h, kind)
		if !h.neverSent && !d.unread(a, &h) {
			break
		}
		d.endWait()
		d.x.Waits(nil)
		h.up.Close()
		h = head{}
	}
	miss := d.missed(a, h, kind)
	if h.reason == mesh.ReasonNone {
		h.heard = d.s.Task.Woken(d.waitedFrom)
		a.AnsweredAt(d.resp.Status(), h.heard)
		a.Failed(miss.Reason)
	}
	switch {
	case h.pump != nil: // a part of the request is not here any more
	case miss.MovesOn(d.retry.method):
		h.unreached = miss.Reason
	case upstream.Deserted(h.reason) && !d.interim && retry.Idempotent(d.retry.method):
		h.unreached = h.reason
	}
	return h
}

// again chooses an endpoint for a retry if the route asks for one, and waits as the route
// says. It returns nil if there is no retry: then h is the result.
func (d *sender) again(failed *endpoints.Attempt, h *head, kind http1.Kind) *endpoints.Attempt {
	failure := retry.Attempt{GRPC: kind&http1.KindGRPC != 0, Method: d.retry.method, ResponseStarted: d.interim, BodyKept: true}
	if !d.describe(&failure, h) {
		return nil
	}
	left := request.NoDeadline
	if !d.deadline.IsZero() {
		left = time.Until(d.deadline)
	}
	wait, ok := d.retry.done.Next(d.s, &d.plan, failure, left)
	if !ok {
		return nil
	}
	switch {
	case !h.pump.halt():
		return nil
	case h.pump != nil && !d.retry.body.Complete():
		// If the pump has failed in a write, a part of the body is lost, and it cannot continue.
		if h.pump.reason == mesh.ReasonNone && !d.body.Done() {
			h.pump = d.startPump(h.up)
		}
		return nil
	}
	d.endWait()
	d.x.Waits(nil)
	if !d.pause(wait) {
		return nil
	}
	next, err := d.s.PickOther(d.tried.Backend, failed.Peer.Addr)
	if err != nil {
		return nil
	}
	d.retry.done.Begin(&d.x)
	body := d.retry.body.Body()
	d.out = append(d.out, body[d.retry.copied:]...)
	d.retry.copied = len(body)
	return next
}

// describe fills in how an attempt failed. It reports whether a retry is possible after
// such a failure.
func (d *sender) describe(a *retry.Attempt, h *head) (ok bool) {
	switch {
	case h.err != nil:
		a.Cause, ok = request.Cause(upstream.ReasonOf(h.err), unsent(h.err) != mesh.ReasonNone)
		return ok
	case h.reason != mesh.ReasonNone:
		a.Cause, ok = request.Cause(h.reason, false)
		return ok
	}
	a.Cause, a.Status, a.GRPCStatus = retry.Status, d.resp.Status(), reply.NoGRPCStatus
	if a.GRPC {
		a.GRPCStatus = reply.GRPCStatus(unsafeString(d.resp.Get("grpc-status")))
	}
	return true
}

// abandon ends an attempt that is followed by another. Its connection is kept if the
// whole response has arrived, and closed otherwise.
func (d *sender) abandon(h head) {
	d.endWait()
	d.x.Waits(nil)
	if h.up == nil {
		return
	}
	if h.err == nil && h.reason == mesh.ReasonNone && h.pump == nil && d.resp.KeepAlive() {
		body := d.resp.Body()
		n, _, err := body.Next(h.up.In[h.length:])
		if err == nil && body.Done() {
			h.up.In = h.up.In[h.length+n:]
			d.release(h.up, true, monotime.Now())
			return
		}
	}
	h.up.Close()
}

// until returns the deadline of an attempt that begins now; zero: none.
func (d *sender) until() time.Time {
	until := d.deadline
	if limit := d.plan.Timeouts().BackendRequest; limit > 0 {
		if at := time.Now().Add(limit); until.IsZero() || at.Before(until) {
			until = at
		}
	}
	return until
}

func (d *sender) dialContext() (context.Context, context.CancelFunc) {
	if !d.attemptDeadline.IsZero() {
		return context.WithDeadline(d.s.Lifetime.Ended, d.attemptDeadline)
	}
	return d.s.Lifetime.Ended, func() {}
}

// orLate returns err, the failure of a dial, as a timeout if the attempt's deadline has
// passed.
func (d *sender) orLate(err error) error {
	if !d.attemptDeadline.IsZero() && !time.Now().Before(d.attemptDeadline) {
		return mesh.Fail(mesh.ReasonTimeout, err)
	}
	return err
}

// limit sets the attempt's deadline on the connection, if there is one; unlimit clears it.
func (d *sender) limit(up *appConn) {
	if !d.attemptDeadline.IsZero() {
		up.DeadlineSet = true
		_ = up.SetDeadline(d.attemptDeadline)
	}
}

func (d *sender) unlimit(up *appConn) {
	if up.DeadlineSet {
		up.DeadlineSet = false
		_ = up.SetDeadline(time.Time{})
	}
}
