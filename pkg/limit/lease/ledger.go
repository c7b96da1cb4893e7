package lease

import (
	"sync"
	"time"
)

// Shared is a limit, as the Ledger has it.
type Shared struct {
	Rate  float64             // requests a second, of all nodes together
	Nodes map[string]struct{} // that have pods which the limit is about
	// Of is the number of nodes as the agents have it: Limit.Nodes, len(Nodes) at least.
	Of int
}

// Ledger lends the nodes their shares. It is safe for concurrent use.
type Ledger struct {
	mu     sync.Mutex
	begun  time.Duration // it lends nothing before begun+TTL
	limits map[string]*account
	nodes  map[string]*Session // the newest of each node, also for TTL after its end
	dirty  map[*entry]struct{} // to be divided
	held   int                 // holds of all buckets
}

// NewLedger returns a Ledger that begins at now. It lends nothing for the first TTL, in which
// leases of its predecessor may hold.
func NewLedger(now time.Duration) *Ledger {
	return &Ledger{begun: now, limits: map[string]*account{}, nodes: map[string]*Session{}, dirty: map[*entry]struct{}{}}
}

// account is a limit with its buckets.
type account struct {
	Shared
	entries map[Key]*entry
}

func (a *account) own() float64 { return a.Rate / float64(max(a.Of, len(a.Nodes), 1)) }

// entry is one bucket.
type entry struct {
	of    *account
	key   Key
	holds map[string]*hold // by node
	// outside counts nodes that asked for a share when there was no room for one. They have
	// R/N, and maybe do not use it any more.
	outside int
}

// hold is what a node has of a bucket.
type hold struct {
	in      *entry
	session *Session
	id      uint64
	demand  float64
	granted float64 // the newest share; below 0: none yet
	// force is the most that the agent may use until it has confirmed granted.
	force  float64
	fresh  bool   // granted is to be sent
	left   bool   // of an earlier stream, and not named on this one
	number uint64 // of the message that granted was sent with
}

// inForce is the most that the agent may use now.
func (h *hold) inForce() float64 { return max(h.force, h.granted) }

func (h *hold) grant(rate float64) {
	h.force = h.inForce()
	h.granted, h.fresh = rate, true
}

// Set replaces the limits.
func (l *Ledger) Set(limits map[string]Shared) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, a := range l.limits {
		if _, ok := limits[name]; ok {
			continue
		}
		for _, e := range a.entries {
			l.drop(e)
		}
		delete(l.limits, name)
	}
	for name, s := range limits {
		a := l.limits[name]
		if a == nil {
			a = &account{entries: map[Key]*entry{}}
			l.limits[name] = a
		}
		a.Shared = s
		for _, e := range a.entries {
			l.dirty[e] = struct{}{}
		}
	}
	for _, s := range l.nodes {
		s.retry()
	}
}

// drop forgets a bucket, with mu held.
func (l *Ledger) drop(e *entry) {
	for _, h := range e.holds {
		delete(h.session.holds, h.id)
	}
	l.held -= len(e.holds)
	delete(e.of.entries, e.key)
	delete(l.dirty, e)
}

// release forgets what a node has of a bucket, with mu held.
func (l *Ledger) release(h *hold) {
	e := h.in
	delete(h.session.holds, h.id)
	if e.holds[h.session.node] == h {
		delete(e.holds, h.session.node)
		l.held--
	}
	if len(e.holds) == 0 {
		l.drop(e)
		return
	}
	l.dirty[e] = struct{}{}
}

// SettleEvery is the time between two calls of Settle.
const SettleEvery = 100 * time.Millisecond

// Settle divides again what has changed. Call it each SettleEvery.
func (l *Ledger) Settle(now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for node, s := range l.nodes {
		if is := s.current(now); is != s.was {
			s.was = is
			l.touch(node)
		}
		s.purge(now)
		if s.closed && now >= s.last+TTL {
			for _, h := range s.holds {
				l.release(h)
			}
			for _, h := range s.left {
				if h.left {
					l.release(h)
				}
			}
			delete(l.nodes, node)
		}
	}
	if now < l.begun+TTL {
		return
	}
	for e := range l.dirty {
		if l.divide(now, e) {
			delete(l.dirty, e)
		}
	}
}

// touch makes the buckets of all limits of a node divided again.
func (l *Ledger) touch(node string) {
	for _, a := range l.limits {
		if _, ok := a.Nodes[node]; !ok {
			continue
		}
		for _, e := range a.entries {
			l.dirty[e] = struct{}{}
		}
	}
}

// Headroom of what a node wants, above its demand: the demand is measured in the past.
const (
	headroom = 1.25
	spare    = 1.0 / 20 // of the rate, for all nodes that use a bucket together
)

// divide divides a bucket. done: it need not be divided again before something changes.
func (l *Ledger) divide(now time.Duration, e *entry) (done bool) {
	a := e.of
	own := a.own()
	reserved := 0.0
	for node := range a.Nodes {
		if s := l.nodes[node]; s == nil || !s.current(now) {
			kept := own
			if h := e.holds[node]; h != nil && s != nil && now < s.last+TTL {
				kept = max(kept, h.inForce())
			}
			reserved += kept
		}
	}
	var holds []*hold
	for _, h := range e.holds {
		switch {
		case !h.session.current(now):
		case h.left:
			reserved += h.inForce()
		default:
			holds = append(holds, h)
		}
	}
	if len(holds) == 0 {
		return true
	}
	reserved += min(float64(e.outside)*own, max(a.Rate-reserved-own*float64(len(holds)), 0))
	wants, shares := make([]float64, len(holds)), make([]float64, len(holds))
	for i, h := range holds {
		wants[i] = h.demand*headroom + a.Rate*spare/float64(len(holds))
	}
	Divide(max(a.Rate-reserved, 0), wants, shares)

	// What is lowered first is free only when the agents have confirmed it.
	free := a.Rate - reserved
	raises := make([]float64, len(holds))
	done = true
	for i, h := range holds {
		if is := h.inForce(); shares[i] > is {
			raises[i] = shares[i] - is
		} else if h.granted < 0 || shares[i] < h.granted*0.98 || shares[i] > h.granted*1.02 {
			h.grant(shares[i])
		}
		free -= h.inForce()
	}
	given := make([]float64, len(holds))
	short := fill(max(free, 0), raises, given) <= 0
	for i, h := range holds {
		if raises[i] <= 0 {
			continue
		}
		done = done && (!short || given[i] >= raises[i]*0.98)
		if rate := h.inForce() + given[i]; h.granted < 0 || rate > h.granted*1.02 {
			h.grant(rate)
			h.force = rate // it is more than what was in force
		}
	}
	for _, h := range holds {
		if h.fresh {
			h.session.signal()
		}
	}
	return done
}
