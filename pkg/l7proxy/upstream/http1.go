package upstream

import (
	"context"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// HTTP1Conn is a connection to an endpoint that carries HTTP/1 exchanges, one after
// another.
type HTTP1Conn struct {
	conn.Conn
	Key    Key
	Result Result
	// Reused is set if it has carried exchanges before. The endpoint may have closed it
	// since.
	Reused bool

	// The user of the connection owns these. They are here so that an exchange
	// allocates nothing.
	In          []byte // bytes from the endpoint that are not consumed yet
	LastRead    int    // bytes of the last read
	DeadlineSet bool   // a deadline is set
	HungUp      bool   // what OnHangup was given has been called

	raw    *rawio.Conn   // below Conn; nil: Conn is a stream of a shared connection
	stream *mux.Stream   // Conn, if it is a stream
	since  time.Duration // when it became idle, by monotime.Now
	list   *idleList     // the last one that it was in; nil: none. Its pool's mu guards it
	watch  bool          // OnHangup was called
	leg    *leg          // of raw; nil: none, or its end was reported
}

// Close closes the connection, and reports its end.
func (c *HTTP1Conn) Close() error {
	err := c.Conn.Close()
	l := c.leg
	c.leg = nil
	l.closed()
	return err
}

// IdleHTTP1 returns an idle connection to the endpoint, nil if there is none. It prefers a
// dedicated one: with little traffic that costs less than a shared one, because no bytes
// pass from one goroutine to another. held is that of HTTP1Conn.Open. last is the caller's.
func (p *Pool) IdleHTTP1(ep *Endpoint, client Client, held bool, last *IdleLists) *HTTP1Conn {
	if ep.Key.Session != 0 {
		return nil
	}
	c := p.idle.get(&ep.Key, held, &last.dedicated)
	if c == nil && ep.Mode == MTLS && p.mux.shares(ep.Key) {
		c = p.idleShared.get(&ep.Key, held, &last.shared)
	}
	if c != nil {
		c.Reused = true
		c.charge(client.Usage())
	}
	return c
}

// DialHTTP1 makes a connection to the endpoint. A deadline of ctx bounds only how long the
// caller waits: the dial itself may go on. The error wraps a *mesh.ReasonError.
func (p *Pool) DialHTTP1(ctx context.Context, ep *Endpoint, client Client) (*HTTP1Conn, error) {
	if _, limited := ctx.Deadline(); limited {
		return p.dialBefore(ctx, ep, client)
	}
	return p.dialHTTP1(ctx, ep, client)
}

// dialHTTP1 makes a connection to the endpoint. Between nodes it is a stream of a shared
// connection if muxFrom dedicated ones exist already.
func (p *Pool) dialHTTP1(ctx context.Context, ep *Endpoint, client Client) (*HTTP1Conn, error) {
	if ep.Mode == MTLS && !client.Usage().OverLimit() {
		if p.mux.reserve(ep.Key) {
			defer p.mux.release(ep.Key)
		} else {
			stream, err := p.mux.stream(ctx, ep, client.Usage().Account())
			switch {
			case err != nil:
				return nil, err
			case stream != nil:
				c := &HTTP1Conn{Conn: stream, Key: ep.Key, Result: ep.Expected(), stream: stream}
				c.charge(client.Usage())
				return c, nil
			}
		}
	}
	nc, result, err := p.Dial(ctx, ep, client.ClientAddr(), mtls.ALPNHTTP1)
	if err != nil {
		return nil, err
	}
	c := &HTTP1Conn{Conn: nc, Key: ep.Key, Result: result, raw: nc.Raw()}
	c.leg = p.opened(c.raw, ep, &result, client.ClientAddr(), "http1")
	return c, nil
}

// Keep returns a connection whose exchange is complete to the pool, for other requests of
// its key. If it was made in plaintext because no agent answered, Keep closes it: the next
// dial finds out whether the agent is back. at is now, by monotime.Now.
func (p *Pool) Keep(c *HTTP1Conn, at time.Duration) {
	c.In = nil // its buffer is used again
	switch {
	case c.Result.TLS == tap.TLSAgentDown:
		c.Close()
	case c.stream != nil:
		p.idleShared.put(c, at)
	default:
		p.idle.put(c, at)
	}
}

// charge counts the bytes that wait on the connection as usage's.
func (c *HTTP1Conn) charge(usage *quota.Usage) {
	if c.stream != nil {
		c.stream.Charge(usage)
	}
}

// Open reports whether the connection may carry another exchange: the endpoint has neither
// ended it nor said anything. held: the caller is about to Hold a request of at most
// rawio.HoldAtMost bytes. Then Open leaves the question to the Hold, whose read fails with
// rawio.ErrUnsent, because the answer may change in between.
func (c *HTTP1Conn) Open(held bool) bool { return held && c.raw != nil || c.Idle() }

// Hold delays the next write: the read of the response sends it, and calls sent then, or
// fails with rawio.ErrUnsent. On a shared connection Hold does nothing, because the
// connection sends together what its streams write; sent is not called.
func (c *HTTP1Conn) Hold(sent func()) {
	if c.raw != nil {
		c.raw.Hold(sent)
	}
}

// WatchHangup is OnHangup for the first call, and does nothing when it is called again.
func (c *HTTP1Conn) WatchHangup(h *rawio.Hangups, f func()) {
	if !c.watch {
		c.watch = true
		_ = c.OnHangup(h, f) // at worst the end is seen when the connection is used again
	}
}

// Held reports whether a write is still delayed.
func (c *HTTP1Conn) Held() bool { return c.raw != nil && c.raw.Held() }
