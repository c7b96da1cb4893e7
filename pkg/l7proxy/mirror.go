package l7proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
)

// Bounds of mirroring: nobody waits for the answers, and so nobody slows down
// who makes the copies.
const (
	mirrorsAtOnce = 256
	mirrorTime    = 15 * time.Second
)

// mirrors are the copies of requests that are under way.
type mirrors struct {
	ctx     context.Context // done when the proxy ends
	running sync.WaitGroup
	now     atomic.Int64
	// dropped counts copies that were not made: too many at once, no endpoint, a
	// body over the replay limit, or no whole answer.
	dropped atomic.Uint64
}

// enter begins a copy, if there are not too many.
func (m *mirrors) enter() bool {
	if m.now.Add(1) > mirrorsAtOnce {
		m.now.Add(-1)
		m.dropped.Add(1)
		return false
	}
	m.running.Add(1)
	return true
}

// leave ends a copy.
func (m *mirrors) leave(whole bool) {
	if !whole {
		m.dropped.Add(1)
	}
	m.now.Add(-1)
	m.running.Done()
}

// start runs send in a goroutine of its own, if there are not too many.
func (m *mirrors) start(send func(context.Context) error) {
	if !m.enter() {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(m.ctx, mirrorTime)
		defer cancel()
		m.leave(send(ctx) == nil)
	}()
}

// mirrored yields the places that get a copy of this request.
func (p *plan) mirrored(yield func(*place) bool) {
	if p.action == nil {
		return
	}
	for i := range p.action.Mirrors {
		if m := &p.action.Mirrors[i]; m.Wants(rand.Uint64()) && !yield(&p.routing.backends[m.At]) {
			return
		}
	}
}

// h1Copy is a request that is to be mirrored once its body is there.
type h1Copy struct {
	to   []*place
	head []byte // and as much of the body as came with it
}

// mirror makes the copies of the request in d.out, now if it is whole.
func (d *h1) mirror(kind http1.Kind) {
	d.copy = h1Copy{}
	if d.plan.action == nil || len(d.plan.action.Mirrors) == 0 || kind&(http1.KindCONNECT|http1.KindUpgrade) != 0 {
		return
	}
	for to := range d.plan.mirrored {
		d.copy.to = append(d.copy.to, to)
	}
	if len(d.copy.to) == 0 {
		return
	}
	d.copy.head = append([]byte(nil), d.out...)
	if d.body.Done() {
		d.mirrorNow(kind)
	}
}

// mirrorBody makes the copies that waited for the body.
func (d *h1) mirrorBody(kind http1.Kind) {
	switch {
	case len(d.copy.to) == 0:
	case d.body.Done() && d.again.body.Whole():
		d.copy.head = append(d.copy.head, d.again.body.Body()...)
		d.mirrorNow(kind)
	default:
		d.s.proxy.mirrors.dropped.Add(uint64(len(d.copy.to)))
	}
}

func (d *h1) mirrorNow(kind http1.Kind) {
	s, request := d.s, d.copy.head
	for _, to := range d.copy.to {
		if to.svc == nil {
			s.proxy.mirrors.dropped.Add(1)
			continue
		}
		choice, err := s.Pick(to)
		if err != nil {
			s.proxy.mirrors.dropped.Add(1)
			continue
		}
		s.proxy.mirrors.start(func(ctx context.Context) error {
			defer choice.Done()
			return s.sendCopy(ctx, choice, request, kind)
		})
	}
	d.copy = h1Copy{}
}

// sendCopy sends a whole HTTP/1 request, and reads the answer away.
func (s *Session) sendCopy(ctx context.Context, choice *Choice, request []byte, kind http1.Kind) error {
	up := s.idleHTTP1(choice)
	if up == nil {
		var err error
		if up, err = s.dialHTTP1(ctx, choice); err != nil {
			choice.failed(reasonOf(err))
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = up.conn.SetDeadline(past) })
	answer := h1Discard{up: up}
	err := answer.run(request, kind)
	if !stop() && err == nil {
		err = ctx.Err() // the connection has its deadline
	}
	if answer.head.Status() != 0 {
		choice.answered(answer.head.Status())
	} else {
		choice.failed(mesh.ReasonUpstreamReset)
	}
	if err != nil || !answer.head.KeepAlive() || up.key.Session != 0 {
		up.conn.Close()
		return err
	}
	up.in = nil
	s.proxy.pool.put(up)
	return nil
}

// h1Discard reads a response away.
type h1Discard struct {
	up   *h1Upstream
	head http1.Head
}

func (a *h1Discard) run(request []byte, kind http1.Kind) error {
	if _, err := a.up.conn.Write(request); err != nil {
		return err
	}
	buf := getBuffer()
	defer putBuffer(buf)
	n, err := a.readHead(*buf, kind)
	if err != nil {
		return err
	}
	body := a.head.Body()
	for rest := a.up.in[n:]; ; {
		taken, _, err := body.Next(rest)
		switch {
		case err != nil:
			return err
		case body.Done() && taken == len(rest):
			return nil
		case taken < len(rest):
			return errors.New("bytes after the response")
		}
		read, err := a.up.conn.Read(*buf)
		if err != nil {
			return err
		}
		rest = (*buf)[:read]
	}
}

// readHead reads the final response's head, n bytes at the start of up.in.
func (a *h1Discard) readHead(buf []byte, kind http1.Kind) (n int, err error) {
	in := buf[:0]
	for len(in) < len(buf) {
		read, err := a.up.conn.Read(buf[len(in):])
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
				a.up.in = in
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
