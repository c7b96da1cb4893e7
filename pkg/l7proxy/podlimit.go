package l7proxy

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/mesh"
)

// What one pod may take of the node's proxy is bounded, so that it cannot take
// it from the others: client connections, and bytes that wait for a receiver.
// The latter are those of HTTP/2, where one connection may have a window's worth
// for each of many streams; HTTP/1 and opaque connections hold two buffers each.

// podUse is what a pod uses in one direction.
type podUse struct {
	conns int          // podUses.mu guards it
	held  atomic.Int64 // bytes
}

type podSide struct {
	uid       string
	direction mesh.Direction
}

// podUses are the pods that have connections.
type podUses struct {
	mu     sync.Mutex
	bySide map[podSide]*podUse

	refusedConns   [2]atomic.Uint64 // outbound, inbound
	refusedStreams atomic.Uint64
}

// enter counts a connection of a pod in, nil if it has as many as it may.
func (u *podUses) enter(side podSide, most int) *podUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	use := u.bySide[side]
	if use == nil {
		use = new(podUse)
		if u.bySide == nil {
			u.bySide = make(map[podSide]*podUse)
		}
		u.bySide[side] = use
	}
	if use.conns >= most {
		return nil
	}
	use.conns++
	return use
}

func (u *podUses) leave(side podSide) {
	u.mu.Lock()
	defer u.mu.Unlock()
	use := u.bySide[side]
	if use.conns--; use.conns == 0 {
		delete(u.bySide, side)
	}
}

// enterPod counts the session as one of its pod, which leave takes back. Where
// the pod may have no more, the session is refused; ok is false then.
func (s *Session) enterPod(local *mesh.Workload) (leave func(), ok bool) {
	p, side := s.proxy, podSide{local.UID, s.Direction}
	if s.use = p.pods.enter(side, p.Limits.PodConnections); s.use == nil {
		p.pods.refusedConns[sideIndex(s.Direction)].Add(1)
		s.failConn(mesh.Fail(mesh.ReasonOverload, errPodConnections))
		return nil, false
	}
	return func() { p.pods.leave(side) }, true
}

var errPodConnections = errors.New("the pod has as many connections as it may (--pod-connections)")

func sideIndex(d mesh.Direction) int {
	if d == mesh.Inbound {
		return 1
	}
	return 0
}

// full reports whether so many bytes wait for the pod's streams that it may not
// begin another.
func (s *Session) full() bool {
	if !s.overBuffer() {
		return false
	}
	s.proxy.pods.refusedStreams.Add(1)
	return true
}

func (s *Session) overBuffer() bool {
	return s.use != nil && s.use.held.Load() > int64(s.proxy.Limits.PodBuffer)
}

// account tells the pod's use how much waits in p now.
func (p *h2pipe) account() {
	now := p.pending.len()
	if p.stream.gone {
		now = 0
	}
	p.pending.charge(now, p.stream.srv.session.use)
}

// LimitHits counts what was refused since a limit was reached, by the limit's
// name in the metrics.
func (p *Proxy) LimitHits() map[string]uint64 {
	return map[string]uint64{
		"pod-connections-outbound": p.pods.refusedConns[0].Load(),
		"pod-connections-inbound":  p.pods.refusedConns[1].Load(),
		"pod-buffer":               p.pods.refusedStreams.Load(),
		"endpoint-connections":     p.h2.refused.Load(),
		"http2-flood":              p.h2.floods.Load(),
		"handshakes-inbound":       p.gate.Stats().Refused,
		"handshakes-outbound":      p.flights.overdue.Load(),
	}
}
