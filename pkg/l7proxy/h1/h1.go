// Package h1 drives HTTP/1: between a client and the endpoints that are picked for
// its requests.
package h1

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/route"
)

// Driver serves HTTP/1 sessions.
type Driver struct {
	core     *request.Core
	sessions *lifetime.Group[*session]
	hangups  rawio.Hangups // of clients
}

// New makes a driver. Watch is to be called about once a second, and Close at last.
func New(core *request.Core) *Driver {
	return &Driver{core: core, sessions: lifetime.NewGroup(core.Lifetime.Draining, (*session).wakeIdle)}
}

// session drives one HTTP/1 client connection: one exchange after the other, each to
// the endpoint that is picked for it. A request that is there whole takes one
// write to the endpoint, and a response that comes whole one to the client.
type session struct {
	s *request.Session

	in  []byte // bytes of the client that are not consumed yet; within buf
	buf *[]byte
	got int // bytes of the client's last read
	// idleBuf is where the next request begins while the client is idle: a buffer is
	// there only while bytes are in flight.
	idleBuf [idleBytes]byte
	req     http1.Head
	body    http1.Body // of the request
	resp    http1.Head
	out     []byte  // what is to be written next
	respBuf *[]byte // buffer of the endpoint's bytes

	exchanges uint64
	x         request.Exchange

	// Of a request.
	first           endpoints.Attempt
	tried           request.Tried
	plan            request.Plan
	asked           route.Request // its strings lie in in
	target          []byte        // rewritten
	deadline        time.Time     // of the whole exchange; zero: none
	attemptDeadline time.Time     // of the attempt under way
	retry           retryState
	mirror          mirrorRequest

	private []*appConn // connections of the session alone, kept between exchanges; inbound all are
	interim bool       // an interim response came: d.out is not the request any more

	phase   phase
	hangups *rawio.Hangups // nil: the client is watched
	onSent  func()         // sent
}

// idleBytes hold the heads of most requests.
const idleBytes = 1 << 10

// keepOut bounds the output buffer that an idle session keeps.
const keepOut = 4 << 10

// headTime bounds how long a client may take over one head.
const headTime = 30 * time.Second

// Serve carries a session to its end. It takes buf over, which s.Head lies at the
// start of.
func (r *Driver) Serve(s *request.Session, buf *[]byte) {
	d := &session{s: s, buf: buf, in: (*buf)[:len(s.Head)], got: len(s.Head), hangups: &r.hangups}
	d.onSent = d.sent
	s.Head = nil
	r.sessions.Enter(d)
	defer func() {
		r.sessions.Leave(d)
		conn.PutBuffer(d.buf)
		closeAll(d.private)
		s.ClientGone()
	}()
	for d.exchange() {
	}
}

// RefuseLate answers a request that is no more than begun, and came too late. It
// takes buf over, as Serve does.
func (r *Driver) RefuseLate(s *request.Session, buf *[]byte) {
	d := &session{s: s, buf: buf, in: (*buf)[:len(s.Head)]}
	defer func() { conn.PutBuffer(d.buf) }()
	d.refuseRequest(os.ErrDeadlineExceeded)
}

// exchange carries one request and its response. False: the client's
// connection is over.
func (d *session) exchange() bool {
	n, err := d.readRequest()
	if err != nil {
		return d.refuseRequest(err)
	}
	d.respBuf = conn.GetBuffer()
	defer func() { conn.PutBuffer(d.respBuf) }()
	kind := d.req.Kind()
	d.begin(kind)
	if d.req.BindsConnection() {
		d.s.BindLogin(d.s.RouteRandom())
	}
	keep := d.req.KeepAlive() && d.s.Lifetime.Retiring.Err() == nil

	d.body = d.req.Body()
	m, _, err := d.body.Next(d.in[n:])
	if err != nil {
		return d.fail(mesh.ReasonBadRequest, kind, false)
	}
	if !d.body.Done() {
		conn.QuickAckPartial(d.s.Client, d.got)
	}
	edits := http1.Edits{}
	if kind&http1.KindHTTP10 != 0 {
		edits.Connection = http1.ConnectionKeepAlive // the endpoint's connection is pooled
	}
	d.plan, d.deadline = request.Plan{}, time.Time{}
	if routing := d.s.Target.Routing(); routing != nil {
		if answer := d.route(routing, &edits); answer.Status != 0 {
			d.in = d.in[n+m:]
			return d.answer(&answer, kind, keep && d.body.Done())
		}
	}
	d.out = http1.AppendRequestHead(d.out[:0], &d.req, &edits)
	d.out = append(d.out, d.in[n:n+m]...)
	d.in = d.in[n+m:]

	if d.s.HasLogin() {
		d.checkPrivate()
	}
	d.tried = request.Tried{Backend: d.plan.Backend()}
	d.startMirrors(kind)
	if err := d.s.Pick(&d.first, d.tried.Backend); err != nil {
		d.mirrorBody(kind)
		return d.fail(upstream.ReasonOf(err), kind, keep && d.body.Done())
	}
	attempt, response := d.attempts(kind)
	defer attempt.Done()
	defer d.endWait()
	if response.err != nil {
		d.x.Chose(attempt)
		d.mirrorBody(kind)
		return d.fail(upstream.ReasonOf(response.err), kind, keep && d.body.Done() && !d.s.HasLogin())
	}
	up := response.up
	reuse, end := d.respond(response, kind, &keep)
	attempt.Failed(end.Reason)
	end.RequestLen = uint64(d.body.Payload())
	d.x.End(end)
	d.endWait()
	d.release(up, reuse)
	d.mirrorBody(kind)
	return keep
}

// readRequest returns the length of the next request's head, which is in d.in.
func (d *session) readRequest() (int, error) {
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
			conn.QuickAckPartial(d.s.Client, d.got)
		}
		if err := d.readMore(len(d.in) == 0); err != nil {
			return 0, err
		}
	}
}

// readMore adds bytes of the client to d.in. Between requests the session
// counts as idle, and is woken when the proxy drains.
func (d *session) readMore(idle bool) error {
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
func (d *session) readIdle() error {
	if cap(d.out) > keepOut {
		d.out = nil
	}
	conn.PutBuffer(d.buf)
	d.beginIdle()
	var n int
	err := io.EOF
	if d.s.Lifetime.Draining.Err() == nil {
		n, err = d.s.Client.Read(d.idleBuf[:])
	}
	d.endIdle()
	d.buf = conn.GetBuffer()
	d.in, d.got = (*d.buf)[:copy(*d.buf, d.idleBuf[:n])], n
	if n > 0 {
		return nil
	}
	return err
}

// refuseRequest ends a connection whose next request cannot be read.
func (d *session) refuseRequest(err error) bool {
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
	d.x.Begin(d.s, d.exchanges, request.Line{Protocol: "http1"})
	return d.fail(reason, 0, false)
}

func (d *session) begin(kind http1.Kind) {
	d.exchanges++
	line := request.Line{Protocol: "http1", GRPC: kind&http1.KindGRPC != 0, Scheme: "http"}
	if d.s.TapActive() {
		line.Method = string(d.req.Method())
		line.Authority = string(d.req.Authority())
		line.Path = string(d.req.Path())
	}
	d.x.Begin(d.s, d.exchanges, line)
}

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

// send sends the endpoint d.out, the request as far as it is there; the rest of
// the body follows by the returned pump, nil if there is none. A connection that
// turns out to be dead when it is used again is replaced by another, if the
// request may be sent twice.
func (d *session) send(a *endpoints.Attempt) (*appConn, *pump, error) {
	body := &d.body
	for {
		up, err := d.acquire(a)
		if err != nil {
			return nil, nil, notConnected{d.orLate(err)}
		}
		a.Reached(&up.Result)
		d.limit(up)
		d.beginWait(up)
		if body.Done() {
			up.Hold(d.onSent)
		}
		_, err = up.Write(d.out)
		if err == nil && body.Done() && !up.Held() {
			d.sent()
		}
		if err == nil && up.Reused && body.Done() && retry.Idempotent(unsafeString(d.req.Method())) {
			err = d.await(up)
		}
		if err == nil {
			d.x.Chose(a)
			if body.Done() {
				return up, nil, nil
			}
			return up, d.startPump(up), nil
		}
		d.endWait()
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if !up.Reused && !late {
			err = up.WriteFailure(err)
		}
		up.Close()
		if d.phase.gaveUp {
			return nil, nil, mesh.Fail(mesh.ReasonClientReset, err)
		}
		if !up.Reused || late { // the connection was well: the time for the attempt is over
			return nil, nil, mesh.Fail(upstream.ReadReason(err), err)
		}
		if !body.Done() || !retry.Idempotent(unsafeString(d.req.Method())) {
			return nil, nil, mesh.Fail(upstream.ReadReason(err), err)
		}
		if why := upstream.ReadReason(err); upstream.Deserted(why) && a.HasOthers {
			// Nothing is there any more: another endpoint does better.
			a.Failed(why)
			return nil, nil, notConnected{mesh.Fail(why, err)}
		}
	}
}

// await sends the request and waits for the first byte of the response.
func (d *session) await(up *appConn) error {
	up.In = (*d.respBuf)[:0]
	return d.readUpstream(up)
}

// acquire is a connection to the endpoint: the session's own, an idle one, or a new
// one.
func (d *session) acquire(a *endpoints.Attempt) (*appConn, error) {
	if up := d.takePrivate(a.Key); up != nil {
		up.Reused, up.In = true, nil
		return up, nil
	}
	if up := d.s.IdleHTTP1(a); up != nil {
		return up, nil
	}
	ctx, cancel := d.dialContext()
	defer cancel()
	return d.s.DialHTTP1(ctx, a)
}

// release is done with a connection, which is kept if it can be used again. The wait
// for it has ended: the watch does nothing to it any more.
func (d *session) release(up *appConn, reuse bool) {
	reuse = reuse && !d.halfClosed()
	d.unlimit(up)
	if d.s.HasLogin() {
		up.Key.Session = d.s.ID // the login that was offered follows on the same connection
	}
	switch {
	case !reuse || len(up.In) > 0:
		up.Close()
	case up.Key.Session == 0:
		d.s.Upstream.Keep(up)
	default:
		d.keepPrivate(up)
	}
}
