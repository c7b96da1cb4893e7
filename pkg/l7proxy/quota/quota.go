// Package quota limits how much of the node's proxy one pod uses, so that enough is left
// for the other pods. It limits client connections, and bytes that wait for a receiver.
// Only HTTP/2 bytes are counted, because one HTTP/2 connection may have a window of bytes
// for each of its many streams. An HTTP/1 or opaque connection has two buffers.
package quota

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
)

// ErrConnections refuses a connection.
var ErrConnections = errors.New("the pod has as many connections as it may (--pod-connections)")

// MaxStreams is the number of HTTP/2 streams that a pod may have open at once, in each
// direction. A stream that carries nothing takes some 2 KiB.
const MaxStreams = 50_000

// Usage is what a pod uses in one direction.
type Usage struct {
	pods  *Pods
	key   Key
	conns int          // guarded by Pods.mu
	held  atomic.Int64 // bytes that wait

	streams atomic.Int64 // of HTTP/2 that are open
	account *fairshare.Account
}

// Key is a pod and a direction.
type Key struct {
	UID       string
	Direction mesh.Direction
}

// Pods has the usage of all pods that have connections. The zero value is ready to use
// when its limits are set.
type Pods struct {
	MaxConns    int // connections of a pod in each direction
	MaxBuffered int // bytes that wait, of a pod in each direction; while there are more, no further request begins

	Shares *fairshare.Scheduler // of the processors; nil: pods take what they want

	mu    sync.Mutex
	byKey map[Key]*Usage

	refusedConns   [2]atomic.Uint64 // outbound, inbound
	refusedStreams atomic.Uint64
	refusedMany    atomic.Uint64
}

// Enter counts a connection of a pod, until Leave. It returns nil if the pod has MaxConns
// connections.
func (p *Pods) Enter(key Key) *Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	usage := p.byKey[key]
	if usage == nil {
		usage = &Usage{pods: p, key: key, account: p.Shares.Account()}
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

// Leave ends the connection that Enter has counted.
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

// Of returns how much a pod uses in a direction: connections, and bytes that wait.
func (p *Pods) Of(key Key) (conns int, held int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.byKey[key]; u != nil {
		conns, held = u.conns, u.held.Load()
	}
	return conns, held
}

// Account returns what the pod's processor time is charged to. It is nil for a nil Usage.
func (u *Usage) Account() *fairshare.Account {
	if u == nil {
		return nil
	}
	return u.account
}

// OverLimit reports whether more than MaxBuffered bytes wait. It is false for a nil Usage,
// which has no limits.
func (u *Usage) OverLimit() bool { return u != nil && u.held.Load() > int64(u.pods.MaxBuffered) }

// BeginStream counts a stream of HTTP/2 in; EndStream takes it back. It returns false, and
// counts the refusal, if the pod has as many as it may, or more bytes wait than may.
func (u *Usage) BeginStream() bool {
	switch {
	case u == nil:
		return true
	case u.OverLimit():
		u.pods.refusedStreams.Add(1)
		return false
	case u.streams.Add(1) > MaxStreams:
		u.streams.Add(-1)
		u.pods.refusedMany.Add(1)
		return false
	}
	return true
}

// EndStream is the end of BeginStream.
func (u *Usage) EndStream() {
	if u != nil {
		u.streams.Add(-1)
	}
}

// RefusedConns counts connections that were refused in a direction.
func (p *Pods) RefusedConns(d mesh.Direction) uint64 { return p.refusedConns[index(d)].Load() }

// RefusedStreams counts requests that were refused because too many bytes wait.
func (p *Pods) RefusedStreams() uint64 { return p.refusedStreams.Load() }

// RefusedMany counts requests that were refused because a pod had too many streams.
func (p *Pods) RefusedMany() uint64 { return p.refusedMany.Load() }
