package quota

import (
	"container/list"
	"time"
)

const (
	// silentFor is how long a connection says nothing before it may be closed for another
	// one of its client. A client that has as much as it may cannot have connections closed
	// and made faster than that.
	silentFor = 2 * time.Second
	// victimsMost is how many are closed for one: each may have had one descriptor.
	victimsMost = 2
)

// silence is a connection on which neither side has said anything yet. Pods.mu guards it,
// but for evict, which is set before.
type silence struct {
	place *list.Element // in its party's list; nil: something was said
	since time.Time
	evict func()
	ended bool // the connection was evicted: it is not counted any more
}

// Silent says that neither side of the connection has said anything yet, until Spoke. If
// its client wants another connection and has as many as it may, evict is called, once, to
// close this one. evict must not wait. It does nothing for a nil Usage.
func (u *Usage) Silent(evict func()) {
	if u == nil {
		return
	}
	u.pods.mu.Lock()
	defer u.pods.mu.Unlock()
	u.silence = silence{place: u.party.silent.PushBack(u), since: time.Now(), evict: evict}
}

// Spoke ends Silent. It returns false if the connection was evicted.
func (u *Usage) Spoke() bool {
	if u == nil {
		return true
	}
	u.pods.mu.Lock()
	defer u.pods.mu.Unlock()
	u.endSilence()
	return !u.silence.ended
}

// EvictedSilent counts the connections that had said nothing and were closed for newer ones
// of their client.
func (p *Pods) EvictedSilent() uint64 { return p.evictedSilent.Load() }

// oldestSilent returns the connection to close for another one of a source; nil: none. mu is
// held.
func (p *Pods) oldestSilent(key Key, from Source) *Usage {
	one := p.byKey[key]
	if one == nil || one.sources[from] == nil {
		return nil
	}
	e := one.sources[from].silent.Front()
	if e == nil || time.Since(e.Value.(*Usage).silence.since) < silentFor {
		return nil
	}
	return e.Value.(*Usage)
}

// evicted stops counting a connection that is about to be closed. Pods.mu is held.
func (u *Usage) evicted() {
	u.endSilence()
	u.leave()
	u.silence.ended = true
	u.pods.evictedSilent.Add(1)
}

// endSilence takes the connection out of the list. Pods.mu is held.
func (u *Usage) endSilence() {
	if u.silence.place != nil {
		u.party.silent.Remove(u.silence.place)
		u.silence.place = nil
	}
}

// countRefusal counts why a connection is refused.
func (p *Pods) countRefusal(key Key, err error) {
	switch err {
	case ErrConnections:
		p.refusedConns[index(key.Direction)].Add(1)
	case ErrSource:
		p.refusedSources.Add(1)
	case ErrDescriptors:
		p.refusedDescriptors.Add(1)
	}
}
