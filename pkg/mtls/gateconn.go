package mtls

import (
	"context"
	"net"
	"net/netip"

	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// GateConn is the transport of a handshake that takes its turn at a Gate, at a port where
// the connections are of the net package. While the handshake waits for the peer's bytes
// it holds no slot. It may read certchain.MaxHandshake bytes.
type GateConn struct {
	*certchain.Conn
	below *paused
}

type paused struct {
	net.Conn
	turn *Turn // nil: the handshake has ended
}

func (p *paused) Read(b []byte) (int, error) {
	if p.turn == nil {
		return p.Conn.Read(b)
	}
	p.turn.Pause()
	defer p.turn.Resume()
	return p.Conn.Read(b)
}

// Conn returns the transport for a handshake with conn, whose peer has the address from,
// when the handshake's turn has come. The error is ErrBusy or that of ctx. The caller calls
// End when the handshake has ended.
func (g *Gate) Conn(ctx context.Context, conn net.Conn, from netip.Addr) (*GateConn, error) {
	turn, err := g.Enter(ctx, from, false)
	if err != nil {
		return nil, err
	}
	below := &paused{conn, turn}
	return &GateConn{certchain.NewConn(below), below}, nil
}

// End gives the turn back. proved says that the peer has proved an identity.
func (c *GateConn) End(proved bool) {
	c.Done()
	c.below.turn.Leave(proved)
	c.below.turn = nil
}

// NetConn returns the connection below.
func (c *GateConn) NetConn() net.Conn { return c.below.Conn }
