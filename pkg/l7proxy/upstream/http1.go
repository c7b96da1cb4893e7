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

// HTTP1Conn is a connection to an endpoint that carries one HTTP/1 exchange after
// the other.
type HTTP1Conn struct {
	conn.Conn
	Key    Key
	Result Result
	// Reused: it has carried exchanges before, and may have died since.
	Reused bool

	// These are its user's. They lie here so that an exchange allocates nothing.
	In          []byte // bytes of the endpoint that are not consumed yet
	LastRead    int    // bytes of the last read
	DeadlineSet bool   // a deadline is set

	raw    *rawio.Conn // below Conn; nil: a stream of a shared connection
	stream *mux.Stream // Conn, where it is one
	since  time.Time   // when it became idle
}

// IdleHTTP1 is a connection to the endpoint that has become free, nil if there is
// none. A dedicated one comes first: with little to do it costs less than a shared
// one, because nothing has to be handed from one goroutine to another.
func (p *Pool) IdleHTTP1(ep *Endpoint, client Client) *HTTP1Conn {
	if ep.Key.Session != 0 {
		return nil
	}
	c := p.idle.get(ep.Key)
	if c == nil && ep.Mode == MTLS && p.mux.shares(ep.Key) {
		c = p.idleShared.get(ep.Key)
	}
	if c != nil {
		c.Reused = true
		c.charge(client.Usage())
	}
	return c
}

// DialHTTP1 makes a connection to the endpoint. A deadline of ctx bounds only how
// long the caller waits. The error is a *mesh.ReasonError.
func (p *Pool) DialHTTP1(ctx context.Context, ep *Endpoint, client Client) (*HTTP1Conn, error) {
	if _, limited := ctx.Deadline(); limited {
		return p.dialBefore(ctx, ep, client)
	}
	return p.dialHTTP1(ctx, ep, client)
}

// dialHTTP1 makes a connection to the endpoint: between nodes a stream of a shared
// one, if there are some already that are not shared.
func (p *Pool) dialHTTP1(ctx context.Context, ep *Endpoint, client Client) (*HTTP1Conn, error) {
	if ep.Mode == MTLS && !client.Usage().OverLimit() {
		if p.mux.reserve(ep.Key) {
			defer p.mux.release(ep.Key)
		} else {
			stream, err := p.mux.stream(ctx, ep)
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
	return &HTTP1Conn{Conn: nc, Key: ep.Key, Result: result, raw: nc.Raw()}, nil
}

// Keep gives a connection back whose exchange is complete, so that another request
// of its key may use it. One that was made in plaintext for want of an agent is
// closed: the next one finds out whether the agent is back.
func (p *Pool) Keep(c *HTTP1Conn) {
	c.In = nil // it lies in a buffer that others get
	switch {
	case c.Result.TLS == tap.TLSAgentDown:
		c.Close()
	case c.stream != nil:
		p.idleShared.put(c)
	default:
		p.idle.put(c)
	}
}

// charge has what waits on the connection counted as usage's.
func (c *HTTP1Conn) charge(usage *quota.Usage) {
	if c.stream != nil {
		c.stream.Charge(usage)
	}
}

// Hold has the next write go out with the read of the response, and sent called then.
// On a shared connection it goes out with what others write, and sent is not called.
func (c *HTTP1Conn) Hold(sent func()) {
	if c.raw != nil {
		c.raw.Hold(sent)
	}
}

// Held reports whether a write still waits for a read.
func (c *HTTP1Conn) Held() bool { return c.raw != nil && c.raw.Held() }
