// Package h1 is the HTTP/1 driver: it moves messages between the sockets of a client and
// of the endpoints that are chosen for its requests. Package http1 parses them.
package h1

import (
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
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
	hangups  rawio.Hangups // of clients, and of endpoints whose connections are private
	lookout  lookout
	leavers  leavers
}

// New makes a driver. The caller calls Watch about once a second, and Close when all
// sessions have ended.
func New(core *request.Core) *Driver {
	return &Driver{core: core, sessions: lifetime.NewGroup(core.Lifetime.Draining, (*session).wakeIdle)}
}

// session serves one HTTP/1 connection of a client. It carries one exchange after the
// other, each with the endpoint that is chosen for it. A request that has arrived
// completely takes one write to the endpoint, and such a response one to the client.
//
// It is made of layers, each of which embeds the one below it and knows none above: link,
// messages, sender, decider. session itself has what becomes of a whole exchange.
type session struct {
	decider
}

// link has the client's connection, and the connections to endpoints that only this session
// may use. It finds out that either end has gone while the session waits (sessions.go,
// private.go).
type link struct {
	s  *request.Session
	in []byte // the client's bytes that are not consumed yet; a part of messages.buf

	private []*appConn // idle connections that only this session may use; inbound that is all of them
	phase   phase
	driver  *Driver
	watched atomic.Bool // the client is watched by the driver's hangups
	pending bool        // phase has something of the current exchange that over must end
	rests   bool        // the session gives its goroutine up
	onSent  func()      // calls sent; kept so that an exchange does not allocate it
}

// messages has the heads of the current request and its response, and the buffers of both. It
// reads from the client and writes to it (request.go, slow.go).
type messages struct {
	link

	buf *[]byte
	got int // number of bytes of the last read from the client
	// waiting is the size of the buffer of a head that is under way.
	waiting quota.Charge
	hurry   bool // the end of the client is not waited for long
	// idleBuf receives the first bytes of the next request. An idle session holds no other
	// buffer.
	idleBuf [idleBytes]byte
	small   []byte     // idleBuf, as the buffer of a request that fits into it, and of no pool
	asking             // the current request
	body    http1.Body // of the request
	resp    http1.Head
	out     []byte  // the bytes to be written next
	respBuf *[]byte // has the endpoint's bytes; nil while they are waited for
	joined  *[]byte // has the head of the response, and what came with it, until they are written
	upload  *pump   // sends the rest of the request's body; nil: it needed none

	askPace, replyPace pace // of the bodies of requests and of responses

	exchanges uint64
}

// sender sends the current request to endpoints, one after the other, until one of them has
// responded (send.go, retry.go).
type sender struct {
	messages

	x               request.Exchange
	first           endpoints.Attempt
	idle            upstream.IdleLists
	tried           request.Tried
	plan            request.Plan
	waitedFrom      time.Duration // what Task.Began has returned before the request was sent
	deadline        time.Time     // of the whole exchange; zero: none
	attemptDeadline time.Time     // of the current attempt; zero: none
	retry           retryState
	mirror          mirrorRequest
	interim         bool // an interim response was forwarded, so that out is not the request any more
}

// decider finds out what is to become of the current request: by routes, tokens and external
// authorizers (route.go, asked.go, external.go).
type decider struct {
	sender

	asked  route.Request // its strings lie in link.in
	target []byte        // the rewritten target
	early  early         // what was read of the body for check
}

// idleBytes is enough for the heads of most requests. The memory of a session is that of its
// size class, and the next larger class costs more than its bytes (TestSessionSize).
const idleBytes = 872

// keepOut is the largest output buffer that an idle session keeps.
const keepOut = 4 << 10

// Serve serves a session until it ends, or rests (rest.go): then it is not nil, and the caller
// calls GoOn. Serve takes ownership of buf, at whose start s.Head lies. buf is nil if nothing was
// read yet: Serve then takes a buffer when bytes come.
func (r *Driver) Serve(s *request.Session, buf *[]byte) request.Rest {
	d := &session{}
	d.s, d.got, d.driver = s, len(s.Head), r
	d.onSent, d.small = d.sent, d.idleBuf[:]
	if buf != nil {
		d.takeBuffer(buf)
	}
	s.Head = nil
	r.sessions.Enter(d)
	if carry(d) {
		return &resting{d: d}
	}
	return nil
}

// carry carries exchanges until the session ends, or rests.
func carry(d *session) (rests bool) {
	defer func() {
		if rests {
			return
		}
		d.driver.sessions.Leave(d)
		d.waiting.Set(0, d.s.Quota)
		d.putBuffer()
		closeAll(d.private)
		d.s.ClientGone()
	}()
	for d.exchange() {
	}
	return d.rests
}

// RefuseLate answers a request of which only a part arrived in time. It takes ownership
// of buf, as Serve does.
func (r *Driver) RefuseLate(s *request.Session, buf *[]byte) {
	d := &session{}
	d.s, d.buf, d.in = s, buf, (*buf)[:len(s.Head)]
	defer func() { conn.PutBuffer(d.buf) }()
	d.refuseRequest(os.ErrDeadlineExceeded)
}

// exchange carries one request and its response. It reports whether the client's
// connection can carry another.
func (d *session) exchange() bool {
	before := d.s.Task.Began()
	n, err := d.readRequest()
	if d.rests {
		return false
	}
	if err != nil {
		return d.refuseRequest(err)
	}
	defer d.dropWaiting()
	d.upload = nil
	kind := d.req.Kind()
	d.begin(kind, d.s.Task.Woken(before))
	if d.req.BindsConnection() {
		d.s.BindLogin(d.s.RouteRandom())
	}
	keep := d.req.KeepAlive() && d.s.Lifetime.Retiring.Err() == nil

	goesOn, keep := d.decide(n, kind, keep)
	if !goesOn {
		return keep
	}
	return d.forward(kind, keep)
}

// decide finds out whether the request, whose head are the first n bytes of d.in, goes on to an
// endpoint, and writes it to d.out as it is to go on. Otherwise it has answered the request.
// mayKeep says whether the client's connection may go on afterwards.
func (d *session) decide(n int, kind http1.Kind, keep bool) (goesOn, mayKeep bool) {
	d.body = d.req.Body()
	m, _, err := d.body.Next(d.in[n:])
	if err != nil {
		return false, d.fail(mesh.ReasonBadRequest, kind, false)
	}
	if !d.body.Done() {
		conn.QuickAckPartial(d.s.Client, d.got)
	} else if !d.holdRequest(n + m) {
		d.in = d.in[n+m:]
		return false, d.fail(mesh.ReasonOverload, kind, keep)
	}
	edits := http1.Edits{}
	if kind&http1.KindHTTP10 != 0 {
		edits.Connection = http1.ConnectionKeepAlive // the endpoint's connection is pooled
	}
	d.plan, d.deadline = request.Plan{}, time.Time{}
	routing := d.s.Target.Routing()
	var override request.Override
	if d.s.Target.Ingress() {
		if routing, err = d.name(&override); err != nil {
			d.in = d.in[n+m:]
			return false, d.fail(upstream.ReasonOf(err), kind, keep && d.body.Done())
		}
	}
	if routing != nil {
		if answer := d.route(routing, &edits); answer.Reason == mesh.ReasonClientReset {
			d.in = d.in[n+m:]
			return false, d.fail(answer.Reason, kind, false)
		} else if answer.Status != 0 {
			d.in = d.in[n+m:]
			return false, d.answer(&answer, kind, keep && d.body.Done())
		}
	}
	if answer := d.authenticate(&edits); answer.Status != 0 {
		d.in = d.in[n+m:]
		return false, d.answer(&answer, kind, keep && d.body.Done() && !mayConnectAgain(d.s, answer.Reason))
	}
	if answer, here := d.ask(&edits, d.in[n:n+m]); answer.Status != 0 || !here {
		d.in = d.in[n+m:]
		if d.takeEarly(); !here {
			return false, d.fail(mesh.ReasonClientReset, kind, false)
		}
		return false, d.answer(&answer, kind, keep && d.body.Done())
	}
	if override.Given() {
		edits.Remove = slices.Concat(edits.Remove, request.OverrideFields)
	}
	d.x.EditHead(&edits.Remove, &edits.Add)
	d.out = http1.AppendRequestHead(d.out[:0], &d.req, &edits)
	d.out = append(d.out, d.in[n:n+m]...)
	d.in = d.in[n+m:]
	if d.early.body != nil {
		d.takeEarly()
	}
	return true, keep
}

// forward sends the request to an endpoint and its response to the client. It returns whether
// the client's connection goes on. What decide had on the stack is gone while it waits: the
// stacks of requests that wait are most of their memory.
func (d *session) forward(kind http1.Kind, keep bool) bool {
	if d.s.HasLogin() {
		d.checkPrivate()
	}
	d.tried = request.Tried{Backend: d.plan.Backend()}
	d.startMirrors(kind)
	if err := d.s.PickFor(&d.first, (*asker)(&d.decider), d.tried.Backend); err != nil {
		d.x.Judged(d.first.Judged)
		d.mirrorBody(kind)
		why := upstream.ReasonOf(err)
		return d.fail(why, kind, keep && d.body.Done() && !mayConnectAgain(d.s, why) && !d.s.Denied())
	}
	d.keepRequest()
	defer d.over()
	attempt, response := d.attempts(kind)
	defer attempt.Done()
	if response.err != nil {
		d.x.Chose(attempt)
		d.noteCut(nil)
		d.mirrorBody(kind)
		keep = keep && d.body.Done() && !d.s.Paired()
		if why := unsent(response.err); why != mesh.ReasonNone {
			answer := d.s.Unreached(why)
			return d.answer(&answer, kind, keep)
		}
		return d.fail(upstream.ReasonOf(response.err), kind, keep)
	}
	up := response.up
	reuse, end := d.respond(response, kind, &keep)
	if end.Reason != mesh.ReasonNone {
		d.noteCut(&end)
	}
	attempt.Failed(end.Reason)
	end.RequestLen = uint64(d.body.Payload())
	at := d.x.End(end)
	d.over()
	d.release(up, reuse, at)
	d.mirrorBody(kind)
	return keep
}

// mayConnectAgain reports whether the client of s, refused for the reason why, is to make
// another connection. That one may have an identity: the client's agent was away when it made this
// one.
func mayConnectAgain(s *request.Session, why mesh.Reason) bool {
	return why == mesh.ReasonNoIdentity && s.Paired()
}

// begin begins an exchange, whose request came at at.
func (d *session) begin(kind http1.Kind, at time.Duration) {
	d.exchanges++
	line := request.Line{Protocol: "http1", GRPC: kind&http1.KindGRPC != 0, Scheme: "http"}
	if d.s.Observes() {
		d.observe(&line)
	}
	if d.s.Outside() {
		line.Outside = d.s.OutsideName(unsafeString(d.req.Authority()))
	}
	if d.s.TapActive() || line.Trace != nil || line.Head != nil {
		line.Method = string(d.req.Method())
		line.Authority = string(d.req.Authority())
		line.Path = string(d.req.Path())
	} else {
		line.Untold = true
	}
	d.x.BeginAt(d.s, d.exchanges, &line, at)
	d.x.Head1(&d.req)
}
