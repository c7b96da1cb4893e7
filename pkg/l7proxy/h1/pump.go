package h1

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
)

// pump brings the rest of a request's body to the endpoint, in a goroutine of
// its own: the response may begin before the request has ended. While it runs,
// the client's bytes are its own.
type pump struct {
	d      *session
	server conn.Conn
	moved  atomic.Uint64 // bytes
	keep   bool          // what goes is kept, for another attempt
	halted atomic.Bool   // stop ends it: that its reads fail is not the client's doing
	done   chan struct{}
	ended  bool        // the client has ended its side inside the body
	reason mesh.Reason // ReasonNone: the whole body went through, or stop has ended it
}

func (d *session) startPump(up *appConn) *pump {
	p := &pump{d: d, server: up, keep: d.retry.keep, done: make(chan struct{})}
	go func() {
		p.reason = p.run(&d.body)
		if p.reason == mesh.ReasonNone && d.body.Done() {
			d.sent()
		}
		// The end of the pump is seen before the endpoint's answer to what follows. With a
		// reason the endpoint's connection is not used again.
		close(p.done)
		switch {
		case p.ended:
			// The client may wait for an answer to what it has sent: the endpoint decides.
			// It sees that the body is not whole.
			_ = p.server.CloseWrite()
			d.endPassed()
		case p.reason == mesh.ReasonClientReset, p.reason == mesh.ReasonBadRequest:
			_ = p.server.Reset() // the endpoint would wait for the rest for ever
		}
	}()
	return p
}

func (p *pump) run(body *http1.Body) mesh.Reason {
	d := p.d
	for !body.Done() {
		d.in = d.in[:0]
		if err := d.readMore(false); err != nil {
			if p.halted.Load() {
				return mesh.ReasonNone
			}
			p.ended = err == io.EOF
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
		if n > 0 {
			if _, werr := p.server.Write(now); werr != nil {
				return mesh.ReasonUpstreamReset
			}
		}
		p.moved.Add(uint64(n))
		if err != nil {
			return mesh.ReasonBadRequest
		}
	}
	return mesh.ReasonNone
}

// running reports whether the pump has not ended. It is safe on a nil pump.
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

// failed reports whether the pump has ended without the whole body. One that
// still runs may well finish while the response is read.
func (p *pump) failed() bool {
	return p != nil && !p.running() && p.reason != mesh.ReasonNone
}

// stop waits for the pump as long as it moves bytes, because a server may answer early
// and go on reading, and ends it when it has not for grace. It returns why the body did
// not go through; ReasonNone also where the body is not whole because stop has ended the
// pump. It is safe on a nil pump.
func (p *pump) stop(grace time.Duration) mesh.Reason {
	if p == nil {
		return mesh.ReasonNone
	}
	for p.moving(grace) {
	}
	select {
	case <-p.done:
		return p.reason
	default:
	}
	// It waits for the client's bytes or for the endpoint to take them.
	p.halted.Store(true)
	_ = p.server.SetWriteDeadline(aLongTimeAgo)
	_ = p.d.s.Client.SetReadDeadline(aLongTimeAgo)
	<-p.done
	_ = p.d.s.Client.SetReadDeadline(time.Time{})
	_ = p.server.SetWriteDeadline(p.d.attemptDeadline)
	return p.reason
}

// halt stops the pump at once, so that the body goes on in another attempt. It
// reports whether it can: the client is there, and its body is no nonsense.
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

// moving watches the pump for grace: has it moved bytes, and not ended?
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

// aLongTimeAgo is a deadline that wakes a pending read or write.
var aLongTimeAgo = time.Unix(1, 0)
