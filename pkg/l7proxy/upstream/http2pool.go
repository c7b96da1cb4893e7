package upstream

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mtls"
)

// Bounds of the pool for one key.
const (
	http2ConnsPerKey  = 64
	http2WaitersADial = 100 // streams that a new connection takes, if nothing is known of the endpoint (RFC 9113 §6.5.2)
)

// http2Window is the receive window of a connection. It is larger than the windows of all
// its streams together, so that streams whose clients do not read never stop the others.
// Memory is bounded by the windows of streams, and by what a pod may hold (package quota).
const http2Window = 1 << 30

// http2StreamsPerConn is how many streams the window of a connection covers.
const http2StreamsPerConn = http2Window / http2.DefaultStreamWindow

// http2Crowd is how many requests make another connection to an endpoint worthwhile that
// allows as many as there are: one thread at a time carries a connection, here and there.
// No request waits for the other connection.
const http2Crowd = 100

// http2Pool holds the HTTP/2 connections to endpoints, shared by all requests of one
// Key.
type http2Pool struct {
	pool[*HTTP2Conn, struct{}] // what waits is in queues
	owner                      *Pool

	// mu guards these as well.
	queues map[Key]*http2Queue
	ended  bool // drain was called: no connection is kept any more

	waiting atomic.Int64  // requests, for a stream
	refused atomic.Uint64 // requests, because too many wait for a stream to their endpoint
}

// Stream is a request of the HTTP/2 driver's. Its methods are called by one
// goroutine at a time for one connection, and must not wait.
type Stream interface {
	// Attach sends the request on c (see HTTP2Conn.Open), and reports whether c
	// took it. The caller of OpenHTTP2 holds the stream's lock.
	Attach(c *HTTP2Conn, b *h2conn.Batch) bool
	// Connected is how the dial ended that an attempt waits for. The stream may
	// have given the attempt up meanwhile.
	Connected(attempt int32, c *HTTP2Conn, err error, b *h2conn.Batch)
	// ServerHeaders takes a response's head, an interim one, or trailers.
	ServerHeaders(c *HTTP2Conn, ev *http2.Event, b *h2conn.Batch)
	// ServerData takes bytes of the response's body.
	ServerData(c *HTTP2Conn, ev *http2.Event, b *h2conn.Batch)
	// ServerReset takes RST_STREAM, or what counts as one.
	ServerReset(c *HTTP2Conn, ev *http2.Event, b *h2conn.Batch)
	// ServerGone is for the end of the connection.
	ServerGone(c *HTTP2Conn, err error, b *h2conn.Batch)
	// ServerRoom: more of the request may be sent.
	ServerRoom(b *h2conn.Batch)
}

// OpenHTTP2 puts a stream's attempt on a connection to the endpoint: on one that is
// there, or on the first one that has room for it or is made; then Connected follows
// later, unless ForgetHTTP2 does before. not, if any, is a connection that refused the
// stream: another one is preferred. bodyless: the request has no body. False: the
// connections are busy, and too many requests wait. The caller holds the stream's lock.
func (p *Pool) OpenHTTP2(ep *Endpoint, client Client, st Stream, attempt int32, bodyless bool, not *HTTP2Conn, b *h2conn.Batch) bool {
	pool := &p.http2
	load := http2Crowd
	for i := 0; ; i++ {
		pool.mu.Lock()
		conns := pool.conns[ep.Key]
		if i == len(conns) && load < http2StreamsPerConn {
			i, load = 0, 2*load
		}
		if i >= len(conns) || pool.queued(ep.Key) {
			break // with mu
		}
		c := conns[i]
		pool.mu.Unlock()
		if c != not && c.load() < load && c.fits(ep) && st.Attach(c, b) {
			if load > http2Crowd {
				pool.grow(ep, client, c)
			}
			return true
		}
	}
	defer pool.mu.Unlock()
	return pool.wait(&waiter{
		stream: st, attempt: attempt, ep: *ep, client: client, not: not,
		bodyless: bodyless, since: time.Now(),
	}, b)
}

// grow makes another connection beside c, which carries many requests. It does so once in
// a while for each connection, so that an endpoint that takes no further one is not asked
// for each request.
func (p *http2Pool) grow(ep *Endpoint, client Client, c *HTTP2Conn) {
	now, last := int64(balance.Now()), c.grew.Load()
	if last != 0 && now-last < int64(redialPause) || !c.grew.CompareAndSwap(last, now) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended && p.size(ep.Key) < http2ConnsPerKey {
		go p.dial(*ep, client, p.begin(ep.Key, struct{}{}))
	}
}

// dial connects to the endpoint, for the streams that wait.
func (p *http2Pool) dial(ep Endpoint, client Client, d *dial[struct{}]) {
	// Not the context of the first stream: others wait for the connection as well.
	nc, result, err := p.owner.Dial(p.owner.Lifetime.Ended, &ep, client.ClientAddr(), mtls.ALPNHTTP2)
	if ep.Balanced && err != nil && !LocalFault(err) && TriesNextEndpoint(ReasonOf(err)) {
		p.owner.OnUnreachable(&ep, ReasonOf(err)) // the requests that waited may be over by now
	}
	var b h2conn.Batch
	if err != nil {
		p.mu.Lock()
		p.dialled(ep.Key, d)
		p.mu.Unlock()
		p.lose(ep.Key, err, &b)
		b.Flush()
		return
	}
	c := newHTTP2Conn(p, nc, ep.Key, result)
	if ep.Key.Session != 0 {
		c.client = client
	}
	if c.agentDown { // not for longer than the agent is thought to be away
		time.AfterFunc(p.owner.Limits.AgentDownTTL, c.retire)
	}
	p.mu.Lock()
	p.dialled(ep.Key, d)
	ended := p.ended
	if len(p.conns[ep.Key]) == 0 {
		c.early = 1
	}
	if !ended {
		p.add(ep.Key, c)
	}
	p.mu.Unlock()
	c.wake(&b)
	b.Flush()
	// Not before: a connection that ends at once must find itself in the pool, to take
	// itself out.
	go c.serve(p.owner.Limits.Idle)
	if ended { // nobody else would end it
		c.Drain()
	}
}

// DropHTTP2 drains the connections of some keys: those private to a session that
// ended.
func (p *Pool) DropHTTP2(keys []Key) {
	for _, c := range p.http2.take(keys) {
		c.Drain()
	}
}

// HTTP2Endpoints are the endpoints of those keys that there are connections for, or dials.
func (p *Pool) HTTP2Endpoints(keys []Key) (at []netip.AddrPort) {
	p.http2.mu.Lock()
	defer p.http2.mu.Unlock()
	for _, key := range keys {
		if p.http2.size(key) > 0 {
			at = append(at, key.Addr)
		}
	}
	return at
}

// drain ends the connections after their last stream, and keeps none any more.
func (p *http2Pool) drain() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	for _, c := range p.sweep(func(*HTTP2Conn) bool { return true }) {
		c.Drain()
	}
}
