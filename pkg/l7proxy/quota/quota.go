// Package quota bounds what one pod may take of the node's proxy, so that it cannot
// take it from the others: client connections, and bytes that wait for a receiver.
// The latter are those of HTTP/2, where one connection may have a window's worth
// for each of many streams; HTTP/1 and opaque connections hold two buffers each.
package quota

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/mesh"
)

// ErrConnections refuses a connection.
var ErrConnections = errors.New("the pod has as many connections as it may (--pod-connections)")

// Usage is what a pod uses in one direction.
type Usage struct {
	pods  *Pods
	key   Key
	conns int          // Pods.mu guards it
	held  atomic.Int64 // bytes
}

// Key is a pod and a direction.
type Key struct {
	UID       string
	Direction mesh.Direction
}

// Pods are the pods that have connections. The zero value is ready, but for its
// bounds.
type Pods struct {
	MaxConns int // of a pod, in each direction
	MaxHeld  int // bytes that wait, likewise: where there are more no further request begins

	mu    sync.Mutex
	byKey map[Key]*Usage

	refusedConns   [2]atomic.Uint64 // outbound, inbound
	refusedStreams atomic.Uint64
}

// Enter counts a connection of a pod in; Leave takes it back. It returns nil if the
// pod has as many as it may.
func (p *Pods) Enter(key Key) *Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	usage := p.byKey[key]
	if usage == nil {
		usage = &Usage{pods: p, key: key}
		if p.byKey == nil {
			p.byKey = make(map[Key]*Usage)
		}
		p.byKey[key] = usage
	}
	if usage.conns >= p.MaxConns {
		p.refusedConns[index(key.Direction)].Add(1)
		return nil
	}
	usage.conns++
	return usage
}

// Leave counts a connection out.
func (u *Usage) Leave() {
	u.pods.mu.Lock()
	defer u.pods.mu.Unlock()
	if u.conns--; u.conns == 0 {
		delete(u.pods.byKey, u.key)
	}
}

func index(d mesh.Direction) int {
	if d == mesh.Inbound {
		return 1
	}
	return 0
}

// Of is what a pod uses in a direction: connections, and bytes that wait.
func (p *Pods) Of(key Key) (conns int, held int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.byKey[key]; u != nil {
		conns, held = u.conns, u.held.Load()
	}
	return conns, held
}

// Over reports whether more bytes wait for the pod's streams than may. It is safe on
// a nil Usage, which is not bounded.
func (u *Usage) Over() bool { return u != nil && u.held.Load() > int64(u.pods.MaxHeld) }

// RefuseStream is Over for a stream that is about to begin: it counts the refusal.
func (u *Usage) RefuseStream() bool {
	if !u.Over() {
		return false
	}
	u.pods.refusedStreams.Add(1)
	return true
}

// RefusedConns counts connections that were refused in a direction.
func (p *Pods) RefusedConns(d mesh.Direction) uint64 { return p.refusedConns[index(d)].Load() }

// RefusedStreams counts requests that were refused because too many bytes wait.
func (p *Pods) RefusedStreams() uint64 { return p.refusedStreams.Load() }
