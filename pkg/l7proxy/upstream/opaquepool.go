package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

// streamTries bounds how many shared connections are tried whose agent does not answer, or
// ends them.
const streamTries = 3

// shareFor is how long after its handshake a connection gets further streams. A network that
// closes the way between two pods lets connections live on that are open, as a rule, and refuses
// new ones: a stream of a connection that is open for hours would pass that by for as long.
const shareFor = 30 * time.Second

// answerTime is how long an agent may take to answer a new stream while nothing else comes from
// it. It runs already, so that it is not given the time that a handshake may take.
const answerTime = time.Second

// opaquePool has the shared connections for opaque ones.
type opaquePool struct {
	muxPool
	uses opaqueUses
	age  func(*mux.Conn) time.Duration
}

func (p *opaquePool) init(owner *Pool) {
	p.muxPool.init(owner, mtls.ALPNStreams)
	p.age = (*mux.Conn).Age
}

// tidy ends the connections that have had no stream for limit, and forgets endpoints.
func (p *opaquePool) tidy(limit time.Duration) {
	p.closeIdle(limit)
	p.uses.forget()
}

// has reports whether there is a shared connection for key that gets further streams.
func (p *opaquePool) has(key Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.dials[key]) > 0 || slices.ContainsFunc(p.conns[key], p.young)
}

func (p *opaquePool) young(c *mux.Conn) bool { return p.age(c) <= shareFor }

func (p *opaquePool) stats() (conns, streams int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range p.conns {
		conns += len(list)
		for _, c := range list {
			streams += c.Streams()
		}
	}
	return conns, streams
}

// DialOpaque opens an opaque connection to the endpoint. Between nodes it is a stream of a
// shared connection, if connections to the endpoint are opened often, carry little each, and
// its agent supports it; otherwise it is a connection of its own. The error wraps a
// *mesh.ReasonError.
func (p *Pool) DialOpaque(ctx context.Context, ep *Endpoint, client Client) (conn.Conn, Result, error) {
	if p.OpaqueStreams == NoStreams || ep.Mode != MTLS || p.Connect != nil {
		return p.Dial(ctx, ep, client.ClientAddr(), mtls.ALPNTCP)
	}
	c, result, err := p.dialOpaque(ctx, ep, client)
	if err != nil {
		p.opaque.uses.failed(ep.Key)
	}
	return c, result, err
}

func (p *Pool) dialOpaque(ctx context.Context, ep *Endpoint, client Client) (conn.Conn, Result, error) {
	shares := p.opaque.uses.shares(ep.Key, p.opaque.has) || p.OpaqueStreams == AllStreams
	if shares && !client.Usage().OverLimit() {
		if c, result, err := p.opaque.stream(ctx, ep, client); err != nil || c != nil {
			return c, result, err
		}
	}
	c, result, err := p.Dial(ctx, ep, client.ClientAddr(), mtls.ALPNTCPAlone)
	if err == nil {
		p.opaque.uses.dialled(ep.Key, result.ALPN)
	}
	return c, result, err
}

// stream returns a stream of a shared connection, or the dedicated connection that was made
// instead of one. It returns nil without an error if the caller is to make one: also where the
// agent refuses the stream, because its pod, or the client, has as many connections as it may.
// It refuses a dedicated connection in the handshake, and the caller tries another endpoint.
func (p *opaquePool) stream(ctx context.Context, ep *Endpoint, client Client) (conn.Conn, Result, error) {
	var stale []*mux.Conn
	open := func(c *mux.Conn) *mux.Stream {
		if !p.young(c) || !c.Proof.Holds() {
			stale = append(stale, c)
			return nil
		}
		return c.OpenOpaque(client.ClientAddr().Port())
	}
	for range streamTries {
		d, err := p.openStream(ctx, ep, client.Usage().Account(), open)
		for _, c := range stale {
			p.retire(ep.Key, c)
		}
		stale = nil
		s, c := d.stream, d.conn
		switch {
		case err != nil:
			return nil, ep.Expected(), err
		case d.instead != nil:
			p.uses.dialled(ep.Key, d.result.ALPN)
			return d.instead, d.result, nil
		case s == nil:
			return nil, ep.Expected(), nil
		}
		answer, err := p.answer(ctx, ep, c, s)
		if answer == mux.Accepted {
			client.Usage().Settle()
			s.Charge(client.Usage())
			return &streamConn{Stream: s, on: c, pool: p.owner, ep: ep}, ep.Expected(), nil
		}
		_ = s.Reset()
		if err != nil || answer == mux.Refused {
			return nil, ep.Expected(), err
		}
		p.retire(ep.Key, c)
	}
	return nil, ep.Expected(), nil
}

// retire has no further stream of a connection opened. It ends after its last stream.
func (p *opaquePool) retire(key Key, c *mux.Conn) {
	p.remove(key, c)
	c.Drain()
}

// retireSilent retires the connections for key on which nothing was heard since a time: they lead
// to the same agent, and not each of them is to be waited for.
func (p *opaquePool) retireSilent(key Key, since time.Duration) {
	p.mu.Lock()
	silent := p.removeIf(key, func(c *mux.Conn) bool { return c.Heard() <= since })
	p.mu.Unlock()
	for _, c := range silent {
		c.Drain()
	}
}

// answer waits until the agent has answered a new stream. It is mux.Lost if the connection
// ends, or if nothing is heard on it for answerTime: a connection to a node that is lost, or to an
// agent that hangs, looks open. A handshake then shows what is so. The error is that of ctx.
func (p *opaquePool) answer(ctx context.Context, ep *Endpoint, c *mux.Conn, s *mux.Stream) (mux.Answer, error) {
	limit := min(answerTime, p.owner.Limits.HandshakeSilence)
	if ep.HasOthers {
		limit = min(limit, p.owner.Limits.Failover)
	}
	began := balance.Now()
	answered := s.Begin()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-answered:
		return s.Answer(), nil
	case <-late.C:
		if c.Heard() > began {
			return mux.Refused, nil // it is there, but slow
		}
		p.retireSilent(ep.Key, began)
		return mux.Lost, nil
	case <-ctx.Done():
		return mux.Refused, mesh.Fail(mesh.ReasonConnectTimeout, ctx.Err())
	}
}

// streamConn is an opaque connection to an endpoint that is a stream. Its failures say so if
// a pod has ended.
type streamConn struct {
	*mux.Stream
	on      *mux.Conn
	pool    *Pool
	ep      *Endpoint
	carried carried
}

func (c *streamConn) failure(err error) error {
	if err == nil || err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return err
	}
	if _, said := errors.AsType[*mesh.ReasonError](err); said {
		return err
	}
	_, local, remote := c.Wire()
	if gone := c.pool.gone(local.Addr(), remote.Addr()); gone != mesh.ReasonNone {
		return mesh.Fail(gone, err)
	}
	return err
}

func (c *streamConn) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	c.count(n)
	return n, c.failure(err)
}

func (c *streamConn) Write(b []byte) (int, error) {
	c.count(len(b))
	n, err := c.Stream.Write(b)
	return n, c.failure(err)
}

func (c *streamConn) Offer(b []byte) (kept int, err error) {
	c.count(len(b))
	kept, err = c.Stream.Offer(b)
	return kept, c.failure(err)
}

func (c *streamConn) Flush() error { return c.failure(c.Stream.Flush()) }

// Forward implements conn.Forwarder.
func (c *streamConn) Forward(to conn.Sink) { c.Stream.Forward(&streamSink{to, c}) }

// streamSink is the sink of a streamConn.
type streamSink struct {
	conn.Sink
	c *streamConn
}

func (s *streamSink) Take(b []byte) (kept int, err error) {
	s.c.count(len(b))
	return s.Sink.Take(b)
}

func (s *streamSink) End(err error) { s.Sink.End(s.c.failure(err)) }

// count counts bytes that the stream carries. Once they are many, it gets a connection of its
// own.
func (c *streamConn) count(n int) {
	if c.carried.crosses(n) {
		c.pool.opaque.apart(c)
	}
}
