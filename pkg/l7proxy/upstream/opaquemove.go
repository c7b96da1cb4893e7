package upstream

import "github.com/underlane/underlane/pkg/mtls"

// apart gives a stream that carries much a connection of its own, to which it moves. If none can
// be made, it stays. apart does not wait.
func (p *opaquePool) apart(c *streamConn) {
	p.owner.start(func() { p.move(c) })
}

// move makes a connection and moves a stream to it.
func (p *opaquePool) move(c *streamConn) {
	ep := *c.ep
	ep.Fallback = false // an application is not to see it
	nc, _, err := p.owner.dialMesh(p.owner.Lifetime.Ended, &ep, mtls.ALPNMove)
	if err != nil {
		return
	}
	if err := c.MoveTo(nc); err != nil {
		p.owner.Log.Debug("an opaque stream stays on its shared connection", "endpoint", ep.Peer.Addr, "cause", err)
	}
	if c.on.ManyMoves() {
		p.retire(ep.Key, c.on)
	}
}
