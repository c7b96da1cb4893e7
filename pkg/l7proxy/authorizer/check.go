package authorizer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/extauth"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// check asks by a call of gRPC.
func (k *Asker) check(ctx context.Context, q *Question, a *endpoints.Attempt) (extauth.Answer, error) {
	c := &call{pool: k.Pool, question: q, attempt: a, status: reply.NoGRPCStatus, done: make(chan struct{})}
	c.fields = []http2.Field{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: q.As.Service.Name + "." + q.As.Service.Namespace + ".svc:" + strconv.Itoa(int(q.As.Service.Port))},
		{Name: ":path", Value: extauth.CheckPath},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
		{Name: "grpc-timeout", Value: strconv.FormatInt(max(1, time.Until(deadline(ctx)).Milliseconds()), 10) + "m"},
	}
	c.start()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.giveUp(ctx.Err())
	}
	// Nothing changes c any more.
	if c.err != nil {
		a.Failed(upstream.ReasonOf(c.err))
		return extauth.Answer{}, c.err
	}
	a.Answered(200)
	a.AnsweredCall(c.status)
	if c.status != 0 {
		return extauth.Answer{}, mesh.Fail(mesh.ReasonBadResponse, fmt.Errorf("the authorizer's call failed with the gRPC status %d", c.status))
	}
	answer, err := extauth.CheckAnswer(c.body, q.Present)
	if err != nil {
		return extauth.Answer{}, mesh.Fail(mesh.ReasonBadResponse, err)
	}
	return answer, nil
}

// call is a call of gRPC with one message in each direction. It implements upstream.Stream.
type call struct {
	pool     *upstream.Pool
	question *Question
	fields   []http2.Field
	done     chan struct{} // closed by finish

	mu      sync.Mutex
	attempt *endpoints.Attempt
	up      *upstream.HTTP2Conn // nil until it is sent
	id      uint32
	sent    int  // bytes of the message
	waiting bool // it waits for room on up; up's lock guards it
	ended   bool
	body    []byte // of the response
	status  int    // grpc-status
	err     error
}

// turn is the number of the call's only attempt.
const turn int32 = 0

func (c *call) start() {
	var b h2conn.Batch
	c.mu.Lock()
	c.open(nil, &b)
	c.mu.Unlock()
	b.Flush()
}

func (c *call) open(not *upstream.HTTP2Conn, b *h2conn.Batch) {
	if !c.pool.OpenHTTP2(&c.attempt.Endpoint, client{c.question}, c, turn, false, not, b) {
		c.finish(mesh.Fail(mesh.ReasonOverload, errors.New("too many requests wait for a connection to the authorizer")), b)
	}
}

// finish ends the call. The caller holds mu.
func (c *call) finish(err error, b *h2conn.Batch) {
	if c.ended {
		return
	}
	c.ended, c.err = true, err
	if c.up != nil {
		if err != nil {
			c.up.Reset(c.id, http2.Cancel, b)
		}
		c.up.Leave(c.id, b)
	}
	close(c.done)
}

// giveUp ends the call if it has not ended.
func (c *call) giveUp(err error) {
	var b h2conn.Batch
	c.mu.Lock()
	if !c.ended && c.up == nil {
		c.pool.ForgetHTTP2(&c.attempt.Endpoint, c)
	}
	c.finish(mesh.Fail(mesh.ReasonTimeout, err), &b)
	c.mu.Unlock()
	b.Flush()
}

// Attach implements upstream.Stream.
func (c *call) Attach(u *upstream.HTTP2Conn, b *h2conn.Batch) bool {
	id, err := u.Open(c, turn, c.fields, false, b)
	switch {
	case errors.Is(err, http2.ErrNoSettings):
		return true // u calls Connected when they have arrived
	case errors.Is(err, http2.ErrHeaderTooLarge):
		c.finish(mesh.Fail(mesh.ReasonBadResponse, err), b)
		return true
	case err != nil:
		return false
	}
	c.attempt.Reached(&u.Result)
	c.up, c.id = u, id
	c.push(b)
	return true
}

// Connected implements upstream.Stream.
func (c *call) Connected(_ int32, u *upstream.HTTP2Conn, err error, b *h2conn.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
	case err != nil:
		c.finish(err, b)
	default:
		c.attempt.Dialled()
		if !c.Attach(u, b) {
			c.open(nil, b)
		}
	}
}

// push sends of the message what the connection takes now.
func (c *call) push(b *h2conn.Batch) {
	message := c.question.Message
	if c.up == nil || c.ended || c.sent == len(message) {
		return
	}
	c.up.Lock()
	n, err := c.up.Engine.WriteData(c.id, message[c.sent:], true)
	if err == nil && c.sent+n < len(message) {
		c.up.AwaitRoom(c, &c.waiting)
	}
	c.up.Unlock()
	b.Add(c.up.Conn)
	c.sent += n // after an error the event that says why follows
}

// Resume implements h2conn.Waiter.
func (c *call) Resume(b *h2conn.Batch) { c.ServerRoom(b) }

// ServerRoom implements upstream.Stream.
func (c *call) ServerRoom(b *h2conn.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.push(b)
}

// ServerHeaders implements upstream.Stream.
func (c *call) ServerHeaders(u *upstream.HTTP2Conn, ev *http2.Event, b *h2conn.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up != u || c.ended {
		return
	}
	status := ""
	for _, f := range ev.Fields {
		switch f.Name {
		case ":status":
			status = f.Value
		case "grpc-status":
			c.status = reply.GRPCStatus(f.Value)
		}
	}
	switch {
	case !ev.Trailers && len(status) > 0 && status[0] == '1':
	case !ev.Trailers && status != "200":
		c.finish(mesh.Fail(mesh.ReasonBadResponse, fmt.Errorf("the authorizer's call got the HTTP status %q", status)), b)
	case ev.Trailers || ev.EndStream:
		c.over(b)
	}
}

// over ends a call whose response has arrived.
func (c *call) over(b *h2conn.Batch) {
	if c.status == reply.NoGRPCStatus {
		c.finish(mesh.Fail(mesh.ReasonBadResponse, errors.New("the authorizer's answer has no grpc-status")), b)
		return
	}
	if c.sent < len(c.question.Message) {
		c.up.Reset(c.id, http2.Cancel, b) // it has answered before the end of the question
	}
	c.finish(nil, b)
}

// ServerData implements upstream.Stream.
func (c *call) ServerData(u *upstream.HTTP2Conn, ev *http2.Event, b *h2conn.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u.Consume(ev.Stream, len(ev.Payload))
	b.Add(u.Conn)
	switch {
	case c.up != u || c.ended:
	case len(c.body)+len(ev.Payload) > extauth.MaxAnswer:
		c.finish(errAnswer, b)
	default:
		c.body = append(c.body, ev.Payload...)
		if ev.EndStream {
			c.over(b)
		}
	}
}

// ServerReset implements upstream.Stream.
func (c *call) ServerReset(u *upstream.HTTP2Conn, ev *http2.Event, b *h2conn.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up == u {
		c.finish(mesh.Fail(mesh.ReasonUpstreamReset, fmt.Errorf("the authorizer has reset the call: %v", ev.Code)), b)
	}
}

// ServerGone implements upstream.Stream.
func (c *call) ServerGone(u *upstream.HTTP2Conn, err error, b *h2conn.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up == u {
		c.finish(mesh.Fail(upstream.HTTP2Reason(err), err), b)
	}
}
