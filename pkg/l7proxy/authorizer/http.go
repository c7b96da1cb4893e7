package authorizer

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/extauth"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/monotime"
)

// firstRead is enough for most answers, in bytes.
const firstRead = 2 << 10

var errAnswer = mesh.Fail(mesh.ReasonBadResponse, errors.New("the authorizer's answer is over the limit"))

// request asks by a request of HTTP/1.
func (k *Asker) request(ctx context.Context, q *Question, a *endpoints.Attempt) (extauth.Answer, error) {
	for {
		up := k.Pool.IdleHTTP1(&a.Endpoint, client{q}, false, new(upstream.IdleLists))
		if up == nil {
			var err error
			if up, err = k.Pool.DialHTTP1(ctx, &a.Endpoint, client{q}); err != nil {
				if ctx.Err() == nil && !upstream.LocalFault(err) {
					a.Failed(upstream.ReasonOf(err))
				}
				return extauth.Answer{}, err
			}
			a.Dialled()
		}
		a.Reached(&up.Result)
		x := exchange{up: up}
		answer, err := x.run(ctx, q)
		if err == nil {
			a.Answered(x.head.Status())
			x.release(k.Pool)
			return answer, nil
		}
		up.Close()
		if up.Reused && !x.heard && !errors.Is(err, os.ErrDeadlineExceeded) {
			continue // it was closed while it was idle
		}
		why := upstream.ReadReason(err)
		a.Failed(why)
		return extauth.Answer{}, mesh.Fail(why, err)
	}
}

// exchange is a question and its answer on one connection.
type exchange struct {
	up    *upstream.HTTP1Conn
	head  http1.Head
	in    []byte // what has arrived and is not consumed
	heard bool   // something has arrived
	reuse bool
}

func (x *exchange) run(ctx context.Context, q *Question) (extauth.Answer, error) {
	if q.Account != nil {
		var task fairshare.Task
		task.Charge(q.Account)
		defer task.Pause()
		x.up.ReadsInTurn(&task)
		x.up.WritesInTurn(&task)
		defer x.up.ReadsInTurn(nil)
		defer x.up.WritesInTurn(nil)
	}
	_ = x.up.SetDeadline(deadline(ctx))
	if _, err := x.up.Write(q.Message); err != nil {
		return extauth.Answer{}, err
	}
	n, err := x.readHead(q.Kind)
	if err != nil {
		return extauth.Answer{}, err
	}
	if why, _ := reply.ParseReason(string(x.head.Get(reply.ReasonHeader))); why != mesh.ReasonNone {
		return extauth.Answer{}, mesh.Fail(why, errors.New("an agent has answered for the authorizer"))
	}
	x.in = x.in[n:]
	// The fields lie in what x.in was: the body is appended to another slice.
	x.in = append([]byte(nil), x.in...)
	body, err := x.readBody(x.head.Status() != 200)
	if err != nil {
		return extauth.Answer{}, err
	}
	return extauth.HTTPAnswer(q.As, x.head.Status(), x.head.Fields(), body)
}

// more reads once, and appends to x.in.
func (x *exchange) more() error {
	x.in = append(x.in, make([]byte, max(firstRead, len(x.in)))...)[:len(x.in)]
	n, err := x.up.Read(x.in[len(x.in):cap(x.in)])
	x.in = x.in[:len(x.in)+n]
	if n > 0 {
		x.heard = true
		return nil
	}
	return err
}

// readHead reads the head of the final response, which is the first n bytes of x.in.
func (x *exchange) readHead(kind http1.Kind) (n int, err error) {
	for {
		if err := x.more(); err != nil {
			return 0, err
		}
		for len(x.in) > 0 {
			n, err := http1.ParseResponse(x.in, &x.head, kind)
			switch {
			case err != nil:
				return 0, mesh.Fail(mesh.ReasonBadResponse, err)
			case n > 0 && !x.head.Interim():
				return n, nil
			}
			if n == 0 {
				break
			}
			x.in = x.in[n:]
		}
		if len(x.in) > extauth.MaxAnswer {
			return 0, errAnswer
		}
	}
}

// readBody reads the body of the answer. Without wanted it only looks whether the body is
// here, so that the connection may be used again.
func (x *exchange) readBody(wanted bool) (payload []byte, err error) {
	body := x.head.Body()
	var all []byte
	for {
		n, done, err := body.Next(x.in)
		if err != nil {
			return nil, mesh.Fail(mesh.ReasonBadResponse, err)
		}
		all, x.in = append(all, x.in[:n]...), x.in[n:]
		switch {
		case done:
			x.reuse = x.head.KeepAlive() && len(x.in) == 0
			if body.Kind() == http1.BodyChunked {
				all = http1.Unchunk(all)
			}
			return all, nil
		case len(all) > extauth.MaxAnswer && wanted:
			return nil, errAnswer
		case len(all) > extauth.MaxAnswer || !wanted && body.NeedsClose():
			return nil, nil
		}
		switch err := x.more(); {
		case err == nil:
		case body.NeedsClose() && !errors.Is(err, os.ErrDeadlineExceeded):
			if err := body.Finish(); err != nil {
				return nil, mesh.Fail(mesh.ReasonBadResponse, err)
			}
			return all, nil
		default:
			return nil, err
		}
	}
}

// release gives the connection back.
func (x *exchange) release(pool *upstream.Pool) {
	if !x.reuse || x.up.Key.Session != 0 {
		x.up.Close()
		return
	}
	_ = x.up.SetDeadline(time.Time{})
	pool.Keep(x.up, monotime.Now())
}
