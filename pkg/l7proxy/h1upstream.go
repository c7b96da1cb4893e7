package l7proxy

import (
	"context"
	"net/netip"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
)

// h1Upstream is a connection to an endpoint.
type h1Upstream struct {
	conn   Conn
	raw    *rawio.Conn // conn, or below it; nil: a stream of a shared connection
	key    PoolKey
	next   *h1Upstream // of h1.own
	tls    string
	at     netip.AddrPort // Choice.reached
	reused bool
	timed  bool   // it has a deadline
	in     []byte // bytes of the endpoint that are not consumed yet
	got    int    // bytes of the last read
}

// idleHTTP1 is a connection to the endpoint that has become free, nil if there is
// none. One of its own comes first: with little to do it costs less than a shared
// one, for nothing has to be handed from one goroutine to another.
func (s *Session) idleHTTP1(c *Choice) *h1Upstream {
	if c.Key.Session != 0 {
		return nil
	}
	p := s.proxy
	up := p.pool.get(c.Key, false)
	if up == nil && c.way == wayMesh && p.muxes.shares(c.Key, &p.watched) {
		up = p.pool.get(c.Key, true)
	}
	if up != nil {
		up.reused, up.in = true, nil
		up.charge(s.use)
	}
	return up
}

// dialHTTP1 makes a connection to the endpoint. A deadline of ctx bounds only how
// long it waits.
func (s *Session) dialHTTP1(ctx context.Context, c *Choice) (*h1Upstream, error) {
	if _, limited := ctx.Deadline(); limited {
		return s.dialBefore(ctx, c)
	}
	return s.dialOwn(ctx, c)
}

// dialOwn makes a connection to the endpoint: between nodes a stream of a shared
// one, if there are some already that are not shared.
func (s *Session) dialOwn(ctx context.Context, c *Choice) (*h1Upstream, error) {
	alpn := mtls.ALPNHTTP1
	if c.way == wayMesh && !s.overBuffer() {
		if s.proxy.muxes.reserve(c.Key, &s.proxy.watched) {
			defer s.proxy.muxes.reserved(c.Key)
		} else {
			alpn = mtls.ALPNMux
		}
	}
	conn, err := s.Dial(ctx, c, alpn)
	if err != nil {
		return nil, err
	}
	up := newH1Upstream(conn, c)
	up.charge(s.use)
	return up, nil
}

func newH1Upstream(conn Conn, c *Choice) *h1Upstream {
	return &h1Upstream{conn: conn, raw: rawOf(conn), key: c.Key, tls: c.TLS, at: c.reached}
}

// charge has what waits on the connection counted as use's.
func (up *h1Upstream) charge(use *podUse) {
	if s, ok := up.conn.(*muxStream); ok {
		s.charge(use)
	}
}

// hold has the next write go out with the read of the response. On a shared
// connection it goes out with what others write.
func (up *h1Upstream) hold() {
	if up.raw != nil {
		up.raw.Hold()
	}
}
