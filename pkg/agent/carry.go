package agent

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect"
)

// listen starts accepting for an enrolled pod.
func (p *pods) listen(w *mesh.Workload, e *redirect.Pod) {
	for _, l := range e.Outbound {
		p.agent.conns.Serve(l, func(c *rawio.Conn) { p.outbound(w.UID, e, c) })
	}
	for _, l := range e.Inbound {
		p.agent.conns.Serve(l, func(c *rawio.Conn) { p.inbound(w.UID, e, c) })
	}
}

func (p *pods) outbound(uid string, e *redirect.Pod, c *rawio.Conn) {
	w := p.begin(uid, e)
	if w == nil {
		return
	}
	defer p.end(uid, e)
	original, ok := e.Original(c.Remote())
	if !ok {
		p.agent.stray(c, w, mesh.Outbound)
		return
	}
	p.agent.proxy.ServeOutbound(c, w, original.Addr, original.Process)
}

func (p *pods) inbound(uid string, e *redirect.Pod, c *rawio.Conn) {
	w := p.begin(uid, e)
	if w == nil {
		return
	}
	defer p.end(uid, e)
	if c.Local().Addr().IsLoopback() {
		p.agent.stray(c, w, mesh.Inbound)
		return
	}
	p.agent.proxy.ServeInbound(c, w)
}

// begin counts a connection of the pod. Nil: the pod left the mesh long ago.
func (p *pods) begin(uid string, e *redirect.Pod) *mesh.Workload {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.pods[uid]; have != nil && have.enrolled == e {
		have.open++
		e.Hold()
		return have.workload
	}
	if l := p.leaving[e]; l != nil {
		l.open++
		e.Hold()
		return l.workload
	}
	return nil
}

func (p *pods) end(uid string, e *redirect.Pod) {
	defer e.Release()
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.pods[uid]; have != nil && have.enrolled == e {
		have.open--
		return
	}
	if l := p.leaving[e]; l != nil {
		l.open--
		p.leave(e, l)
	}
}

// Dial implements l7proxy.Network.
func (p *pods) Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error) {
	e, err := p.get(from)
	if err != nil {
		return nil, err
	}
	return e.Dial(ctx, dst)
}

// DialApp implements l7proxy.Network.
func (p *pods) DialApp(ctx context.Context, into string, dst, client netip.AddrPort) (*rawio.Conn, error) {
	e, err := p.get(into)
	if err != nil {
		return nil, err
	}
	return e.DialApp(ctx, dst, client)
}

// Enrolled implements l7proxy.Network.
func (p *pods) Enrolled(uid string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	have := p.pods[uid]
	return have != nil && have.enrolled != nil
}

// Shared implements l7proxy.Network.
func (p *pods) Shared() bool { return p.shared.Load() }

func (p *pods) get(uid string) (*redirect.Pod, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if have := p.pods[uid]; have != nil && have.enrolled != nil {
		return have.enrolled, nil
	}
	for e, l := range p.leaving {
		if l.workload.UID == uid {
			return e, nil
		}
	}
	return nil, fmt.Errorf("pod %s is not enrolled any more", uid)
}

// unpublish has new connections not come here any more, at a shutdown that nobody
// has taken over for. The pods stay in the maps: without listeners they fail open
// or closed, as they say.
func (p *pods) unpublish() {
	p.closing.Store(true)
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, have := range p.pods {
		if have.enrolled != nil {
			have.enrolled.Unpublish()
		}
	}
}

// closeListeners stops new connections at a shutdown. The pods stay in the
// maps: without listeners they fail open or closed, as they say.
func (p *pods) closeListeners() {
	p.closing.Store(true)
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, have := range p.pods {
		if have.enrolled != nil {
			have.enrolled.CloseListeners()
		}
	}
	for e := range p.leaving {
		e.CloseListeners()
	}
}
