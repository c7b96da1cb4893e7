package upstream

import (
	"github.com/underlane/underlane/pkg/l7proxy/mux"
)

// apart gives a stream that carries much a connection of its own, to which it moves. If none can
// be made, it stays. apart does not wait.
func (p *opaquePool) apart(c *streamConn) {
	p.owner.start(func() { p.move(c) })
}

// move makes a connection and moves a stream to it.
func (p *opaquePool) move(c *streamConn) {
	ep := *c.ep
	nc, result, err := p.connect(p.owner.Lifetime.Ended, &ep)
	if err != nil {
		return
	}
	if result.ALPN != p.alpn { // it was made without TLS, or the agent has been replaced by an older one
		nc.Close()
		return
	}
	alone := mux.NewClient(mux.Opaque, nc, ep.Usage.Account(), func() {})
	alone.Budget = ep.Usage
	go func() {
		_ = alone.Run(nil)
		alone.End()
	}()
	to := alone.OpenMove(c.Stream)
	alone.Drain() // it ends after this stream
	if to == nil {
		return
	}
	answer, _ := p.answer(p.owner.Lifetime.Ended, &ep, alone, to)
	if answer != mux.Accepted {
		c.Stay()
		return
	}
	c.Moved()
	if c.on.ManyMoves() {
		p.retire(ep.Key, c.on)
	}
}
