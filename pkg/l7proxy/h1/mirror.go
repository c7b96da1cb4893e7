package h1

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/monotime"
	"github.com/underlane/underlane/pkg/tap"
)

// mirrorRequest is a request that is copied when its whole body has arrived.
type mirrorRequest struct {
	to   []*destination.Backend
	head []byte // the head, and the part of the body that arrived with it
}

// startMirrors chooses the backends that get a copy of the request in d.out. If the
// request is complete it sends the copies.
func (d *session) startMirrors(kind http1.Kind) {
	d.mirror = mirrorRequest{}
	if d.plan.Action == nil || len(d.plan.Action.Mirrors) == 0 || kind&(http1.KindCONNECT|http1.KindUpgrade) != 0 {
		return
	}
	for to := range d.plan.Mirrored {
		d.mirror.to = append(d.mirror.to, to)
	}
	if len(d.mirror.to) == 0 {
		return
	}
	d.mirror.head = append([]byte(nil), d.out...)
	if d.body.Done() {
		d.mirrorNow(kind)
	}
}

// mirrorBody sends the copies that waited for the body, or drops them if the body is not
// complete or was too large to keep.
func (d *session) mirrorBody(kind http1.Kind) {
	switch {
	case len(d.mirror.to) == 0:
	case d.body.Done() && d.retry.body.Complete():
		d.mirror.head = append(d.mirror.head, d.retry.body.Body()...)
		d.mirrorNow(kind)
	default:
		d.s.Mirrors.Drop(len(d.mirror.to))
	}
}

func (d *session) mirrorNow(kind http1.Kind) {
	s, message, by := d.s, d.mirror.head, d.plan.Egress
	for _, to := range d.mirror.to {
		a := new(endpoints.Attempt)
		if to.Service == nil || s.Pick(a, to) != nil {
			s.Mirrors.Drop(1)
			continue
		}
		s.Mirrors.Start(s.Lifetime.Ended, func(ctx context.Context) error {
			defer a.Done()
			c := &mirrorCopy{s: s, to: to, by: by, at: a.Peer}
			ctx, c.end = context.WithCancel(ctx)
			defer c.end()
			s.Mirrors.Track(c)
			defer s.Mirrors.Untrack(c)
			c.Rejudge() // it may have waited for the body
			return sendCopy(ctx, s, a, message, kind)
		})
	}
	d.mirror = mirrorRequest{}
}

// mirrorCopy is a copy under way.
type mirrorCopy struct {
	s   *request.Session
	to  *destination.Backend
	by  *destination.Egress // that has let the request out; nil: none
	at  tap.Peer
	end func()
	cut atomic.Bool
}

// Rejudge implements request.Copy.
func (c *mirrorCopy) Rejudge() bool {
	if !request.Forbidden(c.s, c.to, c.at, c.by) || !c.cut.CompareAndSwap(false, true) {
		return false
	}
	c.end()
	return true
}

// sendCopy sends a complete HTTP/1 request, and discards the response.
func sendCopy(ctx context.Context, s *request.Session, a *endpoints.Attempt, message []byte, kind http1.Kind) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	up := s.IdleHTTP1(a, false, new(upstream.IdleLists))
	if up == nil {
		var err error
		if up, err = s.DialHTTP1(ctx, a); err != nil {
			return err
		}
	}
	var task fairshare.Task
	if task.Charge(s.Task.Account()); s.Turns() != nil {
		defer task.Pause()
		up.ReadsInTurn(&task)
		up.WritesInTurn(&task)
	}
	stop := context.AfterFunc(ctx, func() { _ = up.SetDeadline(aLongTimeAgo) })
	answer := discard{up: up}
	err := answer.run(message, kind)
	if !stop() && err == nil {
		err = ctx.Err() // the connection has a deadline now and cannot be reused
	}
	if answer.head.Status() != 0 {
		a.Answered(answer.head.Status())
	} else {
		a.Failed(mesh.ReasonUpstreamReset)
	}
	if err != nil || !answer.head.KeepAlive() || up.Key.Session != 0 {
		up.Close()
		return err
	}
	up.ReadsInTurn(nil)
	up.WritesInTurn(nil)
	s.Upstream.Keep(up, monotime.Now())
	return nil
}

// discard sends a request and discards its response.
type discard struct {
	up   *appConn
	head http1.Head
}

func (a *discard) run(message []byte, kind http1.Kind) error {
	if _, err := a.up.Write(message); err != nil {
		return err
	}
	buf := conn.GetBuffer()
	defer conn.PutBuffer(buf)
	n, err := a.readHead(*buf, kind)
	if err != nil {
		return err
	}
	body := a.head.Body()
	for rest := a.up.In[n:]; ; {
		taken, _, err := body.Next(rest)
		switch {
		case err != nil:
			return err
		case body.Done() && taken == len(rest):
			return nil
		case taken < len(rest):
			return errors.New("bytes after the response")
		}
		read, err := a.up.Read(*buf)
		if err != nil {
			return err
		}
		rest = (*buf)[:read]
	}
}

// readHead reads the head of the final response, and skips interim ones. The head is the
// first n bytes of up.In.
func (a *discard) readHead(buf []byte, kind http1.Kind) (n int, err error) {
	in := buf[:0]
	for len(in) < len(buf) {
		read, err := a.up.Read(buf[len(in):])
		if err != nil {
			return 0, err
		}
		in = buf[:len(in)+read]
		for len(in) > 0 {
			n, err := http1.ParseResponse(in, &a.head, kind)
			if err != nil {
				return 0, err
			}
			if n > 0 && !a.head.Interim() {
				a.up.In = in
				return n, nil
			}
			if n == 0 {
				break
			}
			in = buf[:copy(buf, in[n:])]
		}
	}
	return 0, http1.ErrHeaderTooLarge
}
