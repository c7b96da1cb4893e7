package h1

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
)

// pump sends the rest of a request's body to the endpoint in a goroutine of its own,
// because the response may begin before the request has ended. While it runs, nothing else
// reads from the client or uses link.in and messages.body.
type pump struct {
	d      *sender
	server conn.Conn
	moved  atomic.Uint64 // number of bytes sent
	keep   bool          // the bytes are kept for another attempt
	halted atomic.Bool   // stop was called: a failed read is not the client's fault
	done   chan struct{} // closed at the end; ended and reason are valid after that
	ended  bool          // the client has ended its side inside the body
	task   fairshare.Task
	reason mesh.Reason   // ReasonNone: the whole body was sent, or stop was called
	at     time.Duration // when the pump ended, by balance.Now; valid as ended is
	// last is when the pump began to send the end of the body; 0: it has not.
	last atomic.Int64
}

func (d *sender) startPump(up *appConn) *pump {
	p := &pump{d: d, server: up, keep: d.retry.keep, done: make(chan struct{})}
	if turns := d.s.Turns(); turns != nil {
		p.task.Charge(d.s.Task.Account())
		d.s.Client.ReadsInTurn(&p.task)
		up.WritesInTurn(&p.task)
	}
	d.upload = p
	if !d.retry.wanted && cap(d.out) > keepOut { // it was sent, and is not sent again
		d.out = nil
	}
	go func() {
		p.reason = p.run(&d.body)
		p.at = balance.Now()
		p.task.Pause()
		d.s.Client.ReadsInTurn(d.s.Turns())
		up.WritesInTurn(d.s.Turns())
		if p.reason == mesh.ReasonNone && d.body.Done() {
			d.sent()
		}
		// First close done: the endpoint's response to what follows must find that the pump
		// has ended. If there is a reason, the endpoint's connection is never used again.
		close(p.done)
		switch {
		case p.ended:
			// The client may still wait for a response, so the endpoint decides what the
			// FIN means. It can see that the body is incomplete.
			_ = p.server.CloseWrite()
			d.endPassed()
		case p.reason == mesh.ReasonClientReset, p.reason == mesh.ReasonBadRequest, p.reason == mesh.ReasonOverload:
			_ = p.server.Reset() // otherwise the endpoint waits for the rest forever
		}
	}()
	return p
}

func (p *pump) run(body *http1.Body) mesh.Reason {
	d := p.d
	for !body.Done() {
		if wait := d.askPace.due(body, d.s.Quota); wait > 0 {
			rest(wait, &p.task, p.useless)
		}
		if err := d.readBody(); err != nil {
			if p.halted.Load() {
				return mesh.ReasonNone
			}
			p.ended = err == io.EOF && !d.s.Client.Cut()
			return mesh.ReasonClientReset
		}
		n, _, err := body.Next(d.in)
		if !body.Done() {
			conn.QuickAckPartial(d.s.Client, d.got)
		}
		now := d.in[:n]
		d.in = d.in[n:]
		if p.keep {
			d.retry.body.Keep(now)
		}
		if body.Done() {
			p.last.Store(int64(balance.Now()))
		}
		if n > 0 {
			if werr := p.write(now); werr != nil {
				return writeReason(werr, mesh.ReasonUpstreamReset)
			}
		}
		p.moved.Add(uint64(n))
		if err != nil {
			return mesh.ReasonBadRequest
		}
	}
	d.dropRequest() // the response may be long in coming
	return mesh.ReasonNone
}

// useless reports whether the pump has nothing more to do: it is to end, or the client is gone.
func (p *pump) useless() bool {
	if p.halted.Load() {
		return true
	}
	_, gone := p.d.s.Client.PeerClosed()
	return gone
}

// running reports whether the pump has not ended yet. A nil pump has ended.
func (p *pump) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// uploadedAt returns when the whole body was sent, by balance.Now. A server may answer it
// before the pump has seen that its last write has returned.
func (p *pump) uploadedAt() (at time.Duration, ok bool) {
	switch {
	case p == nil:
		return 0, false
	case !p.running():
		return p.at, true
	}
	at = time.Duration(p.last.Load())
	return at, at != 0
}

// failed reports whether the pump has ended without sending the whole body. A pump that
// still runs may finish while the response is read.
func (p *pump) failed() bool {
	return p != nil && !p.running() && p.reason != mesh.ReasonNone
}

// stop waits for the pump while it sends bytes, because a server may respond early and
// continue to read. It ends the pump after grace without a byte. It returns why the body
// was not sent; ReasonNone also if the body is incomplete because stop has ended the pump.
// It does nothing on a nil pump.
func (p *pump) stop(grace time.Duration) mesh.Reason {
	if p == nil {
		return mesh.ReasonNone
	}
	if grace > 0 {
		p.d.s.Task.Pause()
		defer p.d.s.Task.Resume()
	}
	for p.moving(grace) {
	}
	select {
	case <-p.done:
		return p.reason
	default:
	}
	p.d.s.Task.Pause()
	defer p.d.s.Task.Resume()
	// The pump waits for bytes of the client, or until the endpoint takes them.
	p.halted.Store(true)
	_ = p.server.SetWriteDeadline(aLongTimeAgo)
	_ = p.d.s.Client.SetReadDeadline(aLongTimeAgo)
	<-p.done
	_ = p.d.s.Client.SetReadDeadline(time.Time{})
	_ = p.server.SetWriteDeadline(p.d.attemptDeadline)
	return p.reason
}

// blame stops the pump at once, after the response has failed with reason. It returns the
// pump's reason, if that is why the endpoint's connection was reset. It returns reason on a
// nil pump.
func (p *pump) blame(reason mesh.Reason) mesh.Reason {
	switch sent := p.stop(0); sent {
	case mesh.ReasonClientReset, mesh.ReasonBadRequest, mesh.ReasonOverload:
		return sent
	}
	return reason
}

// halt ends the pump at once, so that another attempt can continue with the body. It
// reports whether that is possible: the client has not gone, and its body is valid.
func (p *pump) halt() bool {
	if p == nil {
		return true
	}
	switch p.stop(0) {
	case mesh.ReasonNone, mesh.ReasonUpstreamReset:
		return true
	}
	return false
}

// moving waits for grace, or until the pump ends. It reports whether the pump has sent
// bytes meanwhile and still runs.
func (p *pump) moving(grace time.Duration) bool {
	if grace == 0 {
		return false
	}
	before := p.moved.Load()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return false
	case <-timer.C:
		return p.moved.Load() != before
	}
}

// aLongTimeAgo is a deadline that makes a pending read or write return.
var aLongTimeAgo = time.Unix(1, 0)
