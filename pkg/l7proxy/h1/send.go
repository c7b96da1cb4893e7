package h1

import (
	"errors"
	"os"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/retry"
)

// notConnected is a failure to connect, after which nothing of the request was sent.
type notConnected struct{ error }

func (e notConnected) Unwrap() error { return e.error }

// unsent returns the reason of err if nothing of the request was sent, ReasonNone
// otherwise.
func unsent(err error) mesh.Reason {
	if errors.As(err, new(notConnected)) {
		return upstream.ReasonOf(err)
	}
	return mesh.ReasonNone
}

// send writes d.out to the endpoint: the request as far as it has arrived. The returned
// pump sends the rest of the body; it is nil if there is no rest. If a reused connection
// turns out to be dead, and the request may be sent twice, send tries another.
func (d *sender) send(a *endpoints.Attempt) (*appConn, *pump, error) {
	body := &d.body
	held := body.Done() && len(d.out) <= rawio.HoldAtMost
	for {
		up, err := d.acquire(a, held)
		if err != nil {
			d.x.Waits(&a.Took)
			return nil, nil, notConnected{d.orLate(err)}
		}
		a.Reached(&up.Result)
		d.limit(up)
		d.beginWait(up)
		// Over a new connection the endpoint may say something before the request is sent: an
		// agent that it refuses the client's certificate, a server that it is overloaded. A
		// held request would miss that, because it waits only for what comes after it.
		if held && up.Reused {
			up.Hold(d.onSent)
		}
		if at := a.Chosen(); at > 0 && up.Reused { // a moment ago
			d.x.SentAt(&a.Took, at)
		} else {
			d.x.Sent(&a.Took)
		}
		d.waitedFrom = d.s.Task.Began()
		_, err = up.Write(d.out)
		if err == nil && body.Done() && !up.Held() {
			d.sent()
		}
		awaited := err == nil && up.Reused && body.Done() && retry.Idempotent(d.retry.method)
		if err == nil {
			d.x.Chose(a) // now: tap shows a request that waits
		}
		if awaited {
			err = d.await(up)
		}
		if err == nil {
			if body.Done() {
				return up, nil, nil
			}
			return up, d.startPump(up), nil
		}
		d.endWait()
		d.x.Waits(nil)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if !up.Reused && !late {
			err = up.WriteFailure(err)
		}
		up.Close()
		if d.phase.gaveUp {
			return nil, nil, mesh.Fail(mesh.ReasonClientReset, err)
		}
		if why := d.wasCut(); why != mesh.ReasonNone {
			return nil, nil, mesh.Fail(why, err)
		}
		if awaited && neverSent(err) {
			continue
		}
		if !up.Reused || late { // late: the time of the attempt is over, the connection is not dead
			return nil, nil, mesh.Fail(upstream.ReadReason(err), err)
		}
		if !body.Done() || !retry.Idempotent(d.retry.method) {
			return nil, nil, mesh.Fail(upstream.ReadReason(err), err)
		}
		if why := upstream.ReadReason(err); upstream.Deserted(why) && a.HasOthers {
			// Nothing is there any more: another endpoint does better.
			a.Failed(why)
			return nil, nil, notConnected{mesh.Fail(why, err)}
		}
	}
}

// neverSent reports whether err, of a read from an endpoint's connection that is used
// again, means that no byte of the request was sent: it may be sent on another connection,
// whatever its method.
func neverSent(err error) bool {
	return errors.Is(err, rawio.ErrUnsent) || errors.Is(err, errUnasked)
}

// await sends a request that is held, and waits for the first bytes of the response.
func (d *sender) await(up *appConn) error {
	up.In = nil
	return d.readUpstream(up)
}

// acquire returns a connection to the endpoint: one of the session's own, an idle one of
// the pool, or a new one. held is that of HTTP1Conn.Open.
func (d *sender) acquire(a *endpoints.Attempt, held bool) (*appConn, error) {
	if up := d.takePrivate(a.Key, held); up != nil {
		up.Reused, up.In = true, nil
		return up, nil
	}
	up := d.s.IdleHTTP1(a, held, &d.idle)
	if up == nil {
		ctx, cancel := d.dialContext()
		defer cancel()
		d.s.Task.Pause()
		defer d.s.Task.Resume()
		var err error
		if up, err = d.s.DialHTTP1(ctx, a); err != nil {
			return nil, err
		}
	}
	up.ReadsInTurn(d.s.Turns())
	up.WritesInTurn(d.s.Turns())
	return up, nil
}

// release returns a connection to the pool or to the session if reuse is set, and closes
// it otherwise. The caller has called endWait, after which nothing else closes or resets
// the connection. at is now, by monotime.Now.
func (d *sender) release(up *appConn, reuse bool, at time.Duration) {
	reuse = reuse && !d.halfClosed()
	d.unlimit(up)
	if d.s.HasLogin() {
		up.Key.Session = d.s.ID // the client continues its login on the same connection
	}
	switch {
	case !reuse || len(up.In) > 0:
		up.Close()
	case up.Key.Session == 0:
		up.ReadsInTurn(nil)
		up.WritesInTurn(nil)
		d.s.Upstream.Keep(up, at)
	default:
		d.keepPrivate(up)
	}
}
