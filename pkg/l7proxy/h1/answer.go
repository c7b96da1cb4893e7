package h1

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// fail answers a request that failed with the response for reason. It returns keep, or
// false if the client's connection cannot be used again.
func (d *session) fail(reason mesh.Reason, kind http1.Kind, keep bool) bool {
	answer := reply.Of(reason)
	return d.answer(&answer, kind, keep)
}

// answer sends a response of the proxy's own. With keep unset it ends the connection
// after it. It returns keep, or false if the client did not take the response.
func (d *session) answer(r *reply.Reply, kind http1.Kind, keep bool) bool {
	d.out = reply.AppendHTTP1(d.out[:0], r, kind, !keep)
	d.x.End(request.End{Reason: r.Reason, Status: r.Status, GRPCStatus: r.GRPC})
	if len(d.out) > 0 {
		if d.write(d.out, nil, true) != nil {
			return false
		}
	}
	if !keep {
		d.linger()
	}
	return keep
}

// Limits for reading and discarding what a client still sends. Megabytes may be in flight
// when it gets its response, and a client may send the whole body of a request that the
// server has refused early.
const (
	lingerTime   = time.Second // the longest pause of the client
	discardTime  = headTime    // the whole time
	discardBytes = 16 << 20
)

// linger ends the connection after its last response. It first reads and discards what
// the client still sends, because a close with unread bytes is a reset, which can make
// the client lose the response (RFC 9112 §9.6).
func (d *session) linger() {
	if d.s.Client.CloseWrite() != nil {
		return
	}
	end := time.Now().Add(discardTime)
	if d.hurry {
		end = time.Now().Add(lingerTime)
	}
	for left := discardBytes; left > 0; {
		d.awaitClient(end)
		n, err := d.s.Client.Read(*d.buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// discardBody reads and discards the rest of the request's body. It reports whether the
// body has ended within the limits.
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

// awaitClient sets the deadline of the next read from the client: lingerTime from now,
// but not later than end.
func (d *session) awaitClient(end time.Time) {
	by := time.Now().Add(lingerTime)
	if by.After(end) {
		by = end
	}
	_ = d.s.Client.SetReadDeadline(by)
}
