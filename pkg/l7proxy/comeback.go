package l7proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/tap"
)

// settleTime is how long an agent has to say that it cannot reach the
// application behind it.
const settleTime = time.Second

// tryEndpoint finds out whether an endpoint can be reached, its application if
// possible. Where nobody is left to ask for, requests are to find out: no error.
func (p *Proxy) tryEndpoint(ctx context.Context, from *mesh.Workload, ep mesh.Endpoint) error {
	if w, ok := p.State.View().WorkloadByUID(from.UID); ok {
		from = w
	}
	if !p.Network.Enrolled(from.UID) {
		return nil
	}
	var c Choice
	if err := (&destination{local: from}).choose(p, &c, ep, load{}); err != nil {
		return nil // reached or not, requests will not be let through
	}
	c.failover = true
	conn, err := p.tryDial(ctx, &c)
	if mtls.Busy(err) {
		return nil // it is there
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.TLS != tap.TLSTrue {
		return nil
	}
	// The agent is there. It cuts the connection where the application is not.
	_ = conn.SetReadDeadline(time.Now().Add(settleTime))
	if _, err := conn.Read(make([]byte, 1)); err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

func (p *Proxy) tryDial(ctx context.Context, c *Choice) (Conn, error) {
	switch c.way {
	case wayLocal:
		client := ownAddress(c.from, c.Peer.Addr.Addr(), netip.Addr{})
		return p.dialApp(ctx, c, netip.AddrPortFrom(client, 0))
	case wayMesh:
		conn, err := p.handshake(ctx, c.from, c, mtls.ALPNTCP)
		if err != nil && c.mayFallBack && mtls.NotAgent(err) {
			c.TLS = tap.TLSAgentDown
			return p.dialPlain(ctx, c.from, c)
		}
		return conn, err
	}
	return p.dialOutside(ctx, c.from, c)
}
