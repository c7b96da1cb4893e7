package h1

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// fail gives the proxy's own response to a request that failed.
func (d *session) fail(reason mesh.Reason, kind http1.Kind, keep bool) bool {
	answer := reply.Of(reason)
	return d.answer(&answer, kind, keep)
}

// answer gives the response that the proxy itself makes.
func (d *session) answer(r *reply.Reply, kind http1.Kind, keep bool) bool {
	d.out = reply.AppendHTTP1(d.out[:0], r, kind, !keep)
	d.x.End(request.End{Reason: r.Reason, Status: r.Status, GRPCStatus: r.GRPC})
	if len(d.out) > 0 {
		if _, err := d.s.Client.Write(d.out); err != nil {
			return false
		}
	}
	if !keep {
		d.linger()
	}
	return keep
}

// Bounds of what is read away of a client's bytes. It may have that much on the way
// when it gets its response, and is at liberty to send all of a request that its server
// has refused early.
const (
	lingerTime   = time.Second // that the client may pause
	discardTime  = headTime    // in all
	discardBytes = 16 << 20
)

// linger ends the connection behind its last response. What the client still sends is
// read away: a close with unread bytes is a reset, and the client might lose the
// response to it (RFC 9112 §9.6).
func (d *session) linger() {
	if d.s.Client.CloseWrite() != nil {
		return
	}
	end := time.Now().Add(discardTime)
	for left := discardBytes; left > 0; {
		d.awaitClient(end)
		n, err := d.s.Client.Read(*d.buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// discardBody reads the rest of the request's body away, and reports whether it has
// come to its end within the bounds.
func (d *session) discardBody() bool {
	defer d.s.Client.SetReadDeadline(time.Time{})
	end := time.Now().Add(discardTime)
	for left := discardBytes; left > 0; {
		n, _, err := d.body.Next(d.in)
		d.in = d.in[n:]
		if err != nil || d.body.Done() {
			return err == nil
		}
		d.awaitClient(end)
		if d.readMore(false) != nil {
			return false
		}
		left -= d.got
	}
	return false
}

// awaitClient gives the client lingerTime to send something, but not beyond end.
func (d *session) awaitClient(end time.Time) {
	by := time.Now().Add(lingerTime)
	if by.After(end) {
		by = end
	}
	_ = d.s.Client.SetReadDeadline(by)
}
