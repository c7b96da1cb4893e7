package l7proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/route"
	"github.com/underlane/underlane/pkg/tap"
)

// h1 drives one HTTP/1 client connection: one exchange after the other, each to
// the endpoint that is picked for it. A request that is there whole takes one
// write to the endpoint, and a response that comes whole one to the client.
type h1 struct {
	s   *Session
	ctx context.Context

	in  []byte // bytes of the client that are not consumed yet; within buf
	buf *[]byte
	got int // bytes of the client's last read
	// few is where the next request begins while the client is idle: a buffer is
	// there only while bytes are in flight.
	few  [fewBytes]byte
	req  http1.Head
	body http1.Body // of the request
	resp http1.Head
	out  []byte  // what is to be written next
	back *[]byte // buffer of the endpoint's bytes

	exchanges uint64
	x         Exchange

	// Of a request.
	first    Choice
	tried    attempts
	plan     plan
	asked    route.Request // its strings lie in in
	target   []byte        // rewritten
	deadline time.Time     // of the whole exchange; zero: none
	by       time.Time     // deadline of the attempt under way
	again    resend
	copy     h1Copy

	own     *h1Upstream // connections of the session alone, kept between exchanges; inbound all are
	interim bool        // an interim response came: d.out is not the request any more

	phase phase
}

// fewBytes hold the heads of most requests.
const fewBytes = 1 << 10

// keepOut bounds the output buffer that an idle session keeps.
const keepOut = 4 << 10

// headTime bounds how long a client may take over one head.
const headTime = 30 * time.Second

// serveHTTP1 takes buf over, which s.Head lies at the start of.
func (s *Session) serveHTTP1(ctx context.Context, buf *[]byte) {
	d := &h1{s: s, ctx: ctx, buf: buf, in: (*buf)[:len(s.Head)], got: len(s.Head)}
	s.Head = nil
	s.proxy.h1.enter(d)
	defer func() {
		s.proxy.h1.leave(d)
		putBuffer(d.buf)
		closeOwn(d.own)
	}()
	for d.exchange() {
	}
}

// exchange carries one request and its response. False: the client's
// connection is over.
func (d *h1) exchange() bool {
	n, err := d.readRequest()
	if err != nil {
		return d.refuseRequest(err)
	}
	d.back = getBuffer()
	defer func() { putBuffer(d.back) }()
	kind := d.req.Kind()
	d.begin(kind)
	if d.req.BindsConnection() {
		d.s.bind(d.s.draw())
	}
	keep := d.req.KeepAlive() && !d.s.proxy.retiring.Load()

	d.body = d.req.Body()
	m, _, err := d.body.Next(d.in[n:])
	if err != nil {
		return d.fail(mesh.ReasonBadRequest, kind, false)
	}
	if !d.body.Done() {
		awaitRest(d.s.Client, d.got)
	}
	edits := http1.Edits{}
	if kind&http1.KindHTTP10 != 0 {
		edits.Connection = http1.ConnectionKeepAlive // the endpoint's connection is pooled
	}
	d.plan, d.deadline = plan{}, time.Time{}
	if routing := d.s.routing(); routing != nil {
		if reply := d.route(routing, &edits); reply.Status != 0 {
			d.in = d.in[n+m:]
			return d.answer(&reply, kind, keep && d.body.Done())
		}
	}
	d.out = http1.AppendRequestHead(d.out[:0], &d.req, &edits)
	d.out = append(d.out, d.in[n:n+m]...)
	d.in = d.in[n+m:]

	if d.s.bound() {
		d.lookAtOwn()
	}
	d.tried = attempts{to: d.plan.to()}
	if err := d.s.PickInto(&d.first, d.tried.to); err != nil {
		return d.fail(reasonOf(err), kind, keep && d.body.Done())
	}
	d.mirror(kind)
	choice, response := d.attempts(kind)
	defer choice.Done()
	defer d.endWait()
	if response.err != nil {
		d.x.Chose(choice)
		d.mirrorBody(kind)
		return d.fail(reasonOf(response.err), kind, keep && d.body.Done() && !d.s.bound())
	}
	up := response.up
	reuse, end := d.respond(response, kind, &keep)
	choice.failed(end.Reason)
	end.RequestLen = uint64(d.body.Payload())
	d.x.End(end)
	d.endWait()
	d.release(up, reuse)
	d.mirrorBody(kind)
	return keep
}

// readRequest returns the length of the next request's head, which is in d.in.
func (d *h1) readRequest() (int, error) {
	began := false
	for {
		if len(d.in) > 0 {
			n, err := http1.ParseRequest(d.in, &d.req)
			if n > 0 || err != nil {
				if began {
					_ = d.s.Client.SetReadDeadline(time.Time{})
				}
				return n, err
			}
			if !began {
				began = true
				_ = d.s.Client.SetReadDeadline(time.Now().Add(headTime))
			}
			awaitRest(d.s.Client, d.got)
		}
		if err := d.readMore(len(d.in) == 0); err != nil {
			return 0, err
		}
	}
}

// readMore adds bytes of the client to d.in. Between requests the session
// counts as idle, and is woken when the proxy drains.
func (d *h1) readMore(idle bool) error {
	if len(d.in) == cap(d.in) || len(d.in) == 0 { // make room at the end
		if len(d.in) == len(*d.buf) {
			bigger := make([]byte, 2*len(*d.buf))
			copy(bigger, d.in)
			d.buf = &bigger
		} else {
			copy(*d.buf, d.in)
		}
		d.in = (*d.buf)[:len(d.in)]
	}
	if idle && d.exchanges > 0 { // before its first request nobody would know that there was none
		return d.readIdle()
	}
	n, err := d.s.Client.Read(d.in[len(d.in):cap(d.in)])
	d.in, d.got = d.in[:len(d.in)+n], n
	if n > 0 {
		return nil
	}
	return err
}

// readIdle waits for the first bytes of the next request, and holds no buffer
// meanwhile.
func (d *h1) readIdle() error {
	if cap(d.out) > keepOut {
		d.out = nil
	}
	putBuffer(d.buf)
	d.beginIdle()
	var n int
	err := io.EOF
	if !d.s.proxy.draining.Load() {
		n, err = d.s.Client.Read(d.few[:])
	}
	d.endIdle()
	d.buf = getBuffer()
	d.in, d.got = (*d.buf)[:copy(*d.buf, d.few[:n])], n
	if n > 0 {
		return nil
	}
	return err
}

// refuseRequest ends a connection whose next request cannot be read.
func (d *h1) refuseRequest(err error) bool {
	var syntax *http1.SyntaxError
	var reason mesh.Reason
	switch {
	case errors.Is(err, http1.ErrHeaderTooLarge):
		reason = mesh.ReasonHeaderTooLarge
	case errors.As(err, &syntax):
		reason = mesh.ReasonBadRequest
	case len(d.in) == 0:
		return false // the client is done, or the proxy drains
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = mesh.ReasonRequestTimeout
	default:
		reason = mesh.ReasonClientReset
	}
	d.exchanges++
	d.x.Begin(d.s, d.exchanges, RequestLine{Protocol: "http1"})
	return d.fail(reason, 0, false)
}

func (d *h1) begin(kind http1.Kind) {
	d.exchanges++
	line := RequestLine{Protocol: "http1", GRPC: kind&http1.KindGRPC != 0, Scheme: "http"}
	if d.s.Watched() {
		line.Method = string(d.req.Method())
		line.Authority = string(d.req.Authority())
		line.Path = string(d.req.Path())
	}
	d.x.Begin(d.s, d.exchanges, line)
}

// fail gives the proxy's own response to a request that failed.
func (d *h1) fail(reason mesh.Reason, kind http1.Kind, keep bool) bool {
	reply := http1.ReplyOf(reason)
	return d.answer(&reply, kind, keep)
}

// answer gives the response that the proxy itself makes.
func (d *h1) answer(reply *http1.Reply, kind http1.Kind, keep bool) bool {
	d.out = http1.AppendReply(d.out[:0], reply, kind, !keep)
	d.x.End(End{Reason: reply.Reason, Status: reply.Status, GRPCStatus: reply.GRPC})
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

// Bounds of linger.
const (
	lingerTime  = time.Second
	lingerBytes = 256 << 10
)

// linger reads away what the client still sends after the last answer: a close
// with unread bytes is a reset, and the client might lose the answer to it
// (RFC 9112 §9.6).
func (d *h1) linger() {
	if d.s.Client.CloseWrite() != nil {
		return
	}
	_ = d.s.Client.SetReadDeadline(time.Now().Add(lingerTime))
	for left := lingerBytes; left > 0; {
		n, err := d.s.Client.Read(*d.buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// send sends the endpoint d.out, the request as far as it is there; the rest of
// the body follows by the returned pump, nil if there is none. A connection that
// turns out to be dead when it is used again is replaced by another, if the
// request may be sent twice.
func (d *h1) send(choice *Choice) (*h1Upstream, *pump, error) {
	body := &d.body
	for {
		up, err := d.acquire(choice)
		if err != nil {
			return nil, nil, notConnected{d.orLate(err)}
		}
		choice.TLS, choice.reached = up.tls, up.at
		d.limit(up)
		d.beginWait(up.conn)
		if body.Done() {
			up.hold()
		}
		_, err = up.conn.Write(d.out)
		if err == nil && up.reused && body.Done() && retry.Idempotent(text(d.req.Method())) {
			err = d.await(up)
		}
		if err == nil {
			d.x.Chose(choice)
			if body.Done() {
				return up, nil, nil
			}
			return up, d.startPump(up), nil
		}
		d.endWait()
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if !up.reused && !late {
			err = writeFailure(up.conn, err)
		}
		up.conn.Close()
		if d.phase.gaveUp {
			return nil, nil, mesh.Fail(mesh.ReasonClientReset, err)
		}
		if !up.reused || late { // the connection was well: the time for the attempt is over
			return nil, nil, mesh.Fail(readReason(err), err)
		}
		if !body.Done() || !retry.Idempotent(text(d.req.Method())) {
			return nil, nil, mesh.Fail(mesh.ReasonUpstreamReset, err)
		}
		if why := readReason(err); why == mesh.ReasonAgentDown && choice.failover {
			// It was cut because nobody is there: another endpoint does better.
			choice.failed(why)
			return nil, nil, notConnected{mesh.Fail(why, err)}
		}
	}
}

// await sends the request and waits for the first byte of the response.
func (d *h1) await(up *h1Upstream) error {
	up.in = (*d.back)[:0]
	return d.readUpstream(up)
}

func (d *h1) acquire(c *Choice) (*h1Upstream, error) {
	if up := d.takeOwn(c.Key); up != nil {
		up.reused, up.in = true, nil
		return up, nil
	}
	if up := d.s.idleHTTP1(c); up != nil {
		return up, nil
	}
	ctx, cancel := d.dialContext()
	defer cancel()
	return d.s.dialHTTP1(ctx, c)
}

func (d *h1) release(up *h1Upstream, reuse bool) {
	d.unlimit(up)
	if d.s.bound() {
		up.key.Session = d.s.ID // the login that was offered follows on the same connection
	}
	switch {
	case !reuse || len(up.in) > 0, up.tls == tap.TLSAgentDown && !d.s.bound():
		// A connection made in plaintext for want of an agent is not kept: the
		// next one finds out whether the agent is back.
		up.conn.Close()
	case up.key.Session != 0:
		d.keepOwn(up)
	default:
		up.in = nil // it lies in a buffer that others get
		d.s.proxy.pool.put(up)
	}
}
