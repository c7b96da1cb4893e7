package h1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// early is what was read of a request's body before the request was sent, because an
// authorizer is to see it.
type early struct {
	body []byte // after what came with the head, as it is to be forwarded
	next []byte // of the next request
}

// showRead is how many bytes are read at once.
const showRead = 4 << 10

// show gives the check what it wants of the body. arrived is what came with the head. It
// reads the rest, which it keeps in d.early. It returns false if the client is gone.
func (d *decider) show(c *request.Check, edits *http1.Edits, arrived []byte) (answer reply.Reply, here bool) {
	most, partial := c.Wants()
	if most == 0 {
		c.Body(nil, d.size())
		return reply.Reply{}, true
	}
	raw := bytes.Clone(arrived)
	if len(arrived) == 0 && !d.body.Done() && strings.EqualFold(unsafeString(d.req.Get("Expect")), "100-continue") {
		if _, err := io.WriteString(d.s.Client, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return reply.Reply{}, false
		}
		edits.Remove = slices.Concat(edits.Remove, []string{"expect"}) // the application's 100 would be a second one
	}
	_ = d.s.Client.SetReadDeadline(time.Now().Add(headTime))
	defer d.s.Client.SetReadDeadline(time.Time{})
	for !d.body.Done() && (d.body.Payload() < int64(most) || !partial && d.body.Payload() == int64(most)) {
		d.waiting.Set(cap(raw), d.s.Quota)
		if !d.s.Quota.MayWait() {
			return reply.Of(mesh.ReasonOverload), true
		}
		buf := make([]byte, showRead)
		got, err := d.s.Client.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return reply.Of(mesh.ReasonRequestTimeout), true
		case got == 0 && err != nil:
			return reply.Reply{}, false
		}
		n, _, err := d.body.Next(buf[:got])
		if err != nil || len(raw)+n > 4*(most+showRead) { // chunks of next to nothing
			return reply.Of(mesh.ReasonBadRequest), true
		}
		raw, d.early.next = append(raw, buf[:n]...), buf[n:got]
	}
	if d.body.Payload() > int64(most) && !partial {
		return c.TooLarge(), true
	}
	d.early.body = raw[len(arrived):]
	content := raw
	if d.body.Kind() == http1.BodyChunked {
		content = http1.Unchunk(raw)
	}
	c.Body(content[:min(len(content), most)], d.size())
	return reply.Reply{}, true
}

// size is that of the request's body; -1: it is not known yet.
func (d *messages) size() int64 {
	if d.body.Done() {
		return d.body.Payload()
	}
	return -1
}

// takeEarly appends what was read early of the body to d.out, and makes what was read of the
// next request d.in, whose bytes are all of this request otherwise.
func (d *decider) takeEarly() {
	d.out = append(d.out, d.early.body...)
	if next := d.early.next; len(next) > 0 {
		buf := make([]byte, max(headBuffer, len(next)))
		d.in, d.buf = buf[:copy(buf, next)], &buf // the head lies in the old buffer
	}
	d.early = early{}
}
