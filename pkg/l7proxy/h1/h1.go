// Package h1 drives HTTP/1: between a client and the endpoints that are picked for
// its requests.
package h1

import (
	"os"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
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
