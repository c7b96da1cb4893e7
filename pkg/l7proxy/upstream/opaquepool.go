package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

// heardWithin is how long ago the agent at the other end of a shared connection may have
// been heard, for a stream to be opened without asking whether it is still there. A
// connection to a node that is lost looks open.
const heardWithin = 250 * time.Millisecond

// streamTries bounds how many shared connections are tried whose agent does not answer, or
// ends them.
const streamTries = 3

// opaquePool has the shared connections for opaque ones.
type opaquePool struct {
	muxPool
	uses opaqueUses
}

func (p *opaquePool) init(owner *Pool) { p.muxPool.init(owner, mtls.ALPNStreams) }

// tidy ends the connections that have had no stream for limit, and forgets endpoints.
func (p *opaquePool) tidy(limit time.Duration) {
	p.closeIdle(limit)
	p.uses.forget()
}

// has reports whether there is a shared connection for key.
func (p *opaquePool) has(key Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size(key) > 0
}

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
	if !p.OpaqueStreams || ep.Mode != MTLS || p.Connect != nil || !p.opaque.uses.shares(ep.Key, p.opaque.has) || client.Usage().OverLimit() {
		return p.Dial(ctx, ep, client.ClientAddr(), mtls.ALPNTCP)
	}
	c, result, err := p.opaque.stream(ctx, ep, client)
	if err != nil || c != nil {
		return c, result, err
	}
	return p.Dial(ctx, ep, client.ClientAddr(), mtls.ALPNTCP)
}

// stream returns a stream of a shared connection, or the dedicated connection that was made
// instead of one. It returns nil without an error if the caller is to make one.
func (p *opaquePool) stream(ctx context.Context, ep *Endpoint, client Client) (conn.Conn, Result, error) {
	open := func(c *mux.Conn) *mux.Stream { return c.OpenOpaque(client.ClientAddr().Port()) }
	for range streamTries {
		d, err := p.openStream(ctx, ep, client.Usage().Account(), open)
		s, c := d.stream, d.conn
		switch {
		case err != nil:
			return nil, ep.Expected(), err
		case d.instead != nil:
			return d.instead, d.result, nil
		case s == nil:
			return nil, ep.Expected(), nil
		}
		there, err := p.there(ctx, ep, c)
		if _, gone := s.PeerClosed(); there && !gone {
			client.Usage().Settle()
			s.Charge(client.Usage())
			return &streamConn{Stream: s, pool: p.owner, key: ep.Key}, ep.Expected(), nil
		}
		_ = s.Reset()
		if err != nil {
			return nil, ep.Expected(), err
		}
		p.remove(ep.Key, c)
		c.Drain()
	}
	return nil, ep.Expected(), nil
}

// there reports whether the agent at the other end of a connection answers. The error is
// that of ctx.
func (p *opaquePool) there(ctx context.Context, ep *Endpoint, c *mux.Conn) (bool, error) {
	answer := c.Answers(heardWithin)
	if answer == nil {
		return true, nil
	}
	limit := p.owner.Limits.HandshakeSilence
	if ep.HasOthers {
		limit = min(limit, p.owner.Limits.Failover)
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-answer:
		return true, nil
	case <-late.C:
		return false, nil
	case <-ctx.Done():
		return false, mesh.Fail(mesh.ReasonConnectTimeout, ctx.Err())
	}
}

// streamConn is an opaque connection to an endpoint that is a stream. Its failures say so if
// a pod has ended.
type streamConn struct {
	*mux.Stream
	pool    *Pool
	key     Key
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

// count counts bytes that the stream carries. Further connections to the endpoint are
// dedicated once they are many.
func (c *streamConn) count(n int) {
	if c.carried.crosses(n) {
		c.pool.Carried(c.key, bulkFirst)
	}
}
