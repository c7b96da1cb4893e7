package mtls

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Gate shares the processor among handshakes, which would otherwise take it from
// the traffic of established connections: only so many compute at a time, and
// nobody does without a slot. Whoever waits for its peer's bytes holds none (Turn),
// so a peer that stalls keeps nobody from computing.
//
// Handshakes have a source, by which slots go round. Own handshakes, and those of
// sources that have proved an identity before, come before those of others, and
// the others may take only a share of the slots; where they wait, every fourth
// slot at the latest is one of theirs. What comes from outside is bounded in number
// and in time: what would wait for too long is refused at once.
type Gate struct {
	GateOptions

	mu      sync.Mutex
	running [2]int // slots held, by class
	classes [2]class
	sources map[gateKey]*gateSource // those with handshakes under way
	turns   int                     // slots in a row that went to the known while others waited
	proved  map[netip.Addr]time.Time

	waits, refused uint64
}

// GateOptions bound a Gate. Zero is no bound, but for Slots.
type GateOptions struct {
	Slots     int // that compute at a time; at least one
	Strangers int // of these, for sources that have proved no identity yet
	// Handshakes from outside that are under way, computing or not: of all sources
	// of one class together, of one source, of one that has proved no identity.
	Most, MostOfSource, MostOfStranger int
	// Patience is how long one from outside waits to begin, at most.
	Patience time.Duration
}

// ErrBusy refuses a handshake from outside: there are too many.
var ErrBusy = errors.New("too many mTLS handshakes at once")

// provedFor is how long a source is known that has proved an identity, and
// provedMost how many are.
const (
	provedFor  = time.Hour
	provedMost = 8192
)

// Classes of handshakes.
const (
	known = iota
	stranger
)

// class are the sources of a class that wait, in the order of their turns.
type class struct {
	ring  list.List // of *gateSource
	under int       // handshakes from outside that are under way
}

type gateKey struct {
	addr netip.Addr
	own  bool
}

type gateSource struct {
	gateKey
	class   int
	under   int // handshakes under way
	running int // of these, that hold a slot
	resumed list.List
	fresh   list.List
	place   *list.Element // in its class's ring, nil: none of its handshakes waits
}

// Turn is one handshake under way. Its methods are its goroutine's.
type Turn struct {
	gate   *Gate
	source *gateSource
	ready  chan struct{} // receives when a slot is given to one that waits
	place  *list.Element // where it waits
}

// GateStats counts; Refused and Waits since the start.
type GateStats struct {
	Running int    // handshakes that compute
	Waiting int    // that wait for a slot
	Under   int    // that are under way, with those that wait for their peer
	Waits   uint64 // handshakes that had to wait to begin
	Refused uint64
}

// NewGate makes a gate.
func NewGate(o GateOptions) *Gate {
	o.Slots = max(o.Slots, 1)
	return &Gate{GateOptions: o, sources: make(map[gateKey]*gateSource), proved: make(map[netip.Addr]time.Time)}
}

// Enter begins a handshake with a slot. own: it is not from outside, but of the
// pod of this node that has the address. The error is ErrBusy or ctx's.
func (g *Gate) Enter(ctx context.Context, from netip.Addr, own bool) (*Turn, error) {
	g.mu.Lock()
	s := g.source(gateKey{from.Unmap(), own})
	if !own && g.full(s) {
		g.refused++
		g.drop(s)
		g.mu.Unlock()
		return nil, ErrBusy
	}
	g.count(s, 1)
	t := &Turn{gate: g, source: s}
	if g.take(s) {
		g.mu.Unlock()
		return t, nil
	}
	g.waits++
	g.wait(t, &s.fresh)
	g.mu.Unlock()

	var patience <-chan time.Time
	if !own && g.Patience > 0 {
		timer := time.NewTimer(g.Patience)
		defer timer.Stop()
		patience = timer.C
	}
	err := ErrBusy
	select {
	case <-t.ready:
		return t, nil
	case <-patience:
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.place == nil { // it was given one meanwhile
		g.release(s)
	} else {
		g.unwait(t, &s.fresh)
	}
	if err == ErrBusy {
		g.refused++
	}
	g.count(s, -1)
	return nil, err
}

// Rest gives the slot back, to wait for the peer's bytes.
func (t *Turn) Rest() {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	t.gate.release(t.source)
}

// Resume waits for a slot after Rest. What has begun goes before what its source
// has to begin yet.
func (t *Turn) Resume() {
	g, s := t.gate, t.source
	g.mu.Lock()
	if g.take(s) {
		g.mu.Unlock()
		return
	}
	g.wait(t, &s.resumed)
	g.mu.Unlock()
	<-t.ready
}

// Leave ends the handshake, which holds its slot. proved: its peer has proved an
// identity, so that the source is known from now on.
func (t *Turn) Leave(proved bool) {
	g, s := t.gate, t.source
	g.mu.Lock()
	defer g.mu.Unlock()
	if proved && !s.own {
		g.remember(s)
	}
	g.release(s)
	g.count(s, -1)
}

// Stats returns the counters.
func (g *Gate) Stats() GateStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := GateStats{Running: g.running[known] + g.running[stranger], Waits: g.waits, Refused: g.refused}
	for _, from := range g.sources {
		s.Waiting += from.resumed.Len() + from.fresh.Len()
		s.Under += from.under
	}
	return s
}

// source finds or makes a source. What it is stays while it has handshakes under
// way. mu is held, as in all that follows.
func (g *Gate) source(key gateKey) *gateSource {
	s := g.sources[key]
	if s == nil {
		s = &gateSource{gateKey: key, class: stranger}
		if key.own || time.Since(g.proved[key.addr]) < provedFor {
			s.class = known
		}
		g.sources[key] = s
	}
	return s
}

// drop forgets a source that has nothing under way.
func (g *Gate) drop(s *gateSource) {
	if s.under == 0 {
		delete(g.sources, s.gateKey)
	}
}

// full reports whether no further handshake may come from outside.
func (g *Gate) full(s *gateSource) bool {
	most := g.MostOfSource
	if s.class == stranger && g.MostOfStranger > 0 {
		most = g.MostOfStranger
	}
	return most > 0 && s.under >= most || g.Most > 0 && g.classes[s.class].under >= g.Most
}

func (g *Gate) count(s *gateSource, n int) {
	s.under += n
	if !s.own {
		g.classes[s.class].under += n
	}
	g.drop(s)
}

// free reports whether there is a slot for one of this class.
func (g *Gate) free(of int) bool {
	if g.running[known]+g.running[stranger] >= g.Slots {
		return false
	}
	return of == known || g.Strangers <= 0 || g.running[stranger] < g.Strangers
}

func (g *Gate) take(s *gateSource) bool {
	if !g.free(s.class) {
		return false
	}
	g.running[s.class]++
	s.running++
	return true
}

func (g *Gate) wait(t *Turn, in *list.List) {
	if t.ready == nil {
		t.ready = make(chan struct{}, 1)
	}
	s := t.source
	t.place = in.PushBack(t)
	if s.place == nil {
		s.place = g.classes[s.class].ring.PushBack(s)
	}
}

func (g *Gate) unwait(t *Turn, in *list.List) {
	in.Remove(t.place)
	t.place = nil
	g.rest(t.source)
}

// rest takes a source out of the ring that has nobody waiting.
func (g *Gate) rest(s *gateSource) {
	if s.place != nil && s.resumed.Len()+s.fresh.Len() == 0 {
		g.classes[s.class].ring.Remove(s.place)
		s.place = nil
	}
}

// release takes a slot back and gives those that are free to whoever is next.
func (g *Gate) release(s *gateSource) {
	g.running[s.class]--
	s.running--
	g.grant()
}

func (g *Gate) grant() {
	for {
		next := known
		if g.classes[stranger].ring.Len() > 0 && g.free(stranger) && (g.classes[known].ring.Len() == 0 || g.turns >= 3) {
			next = stranger
		}
		front := g.classes[next].ring.Front()
		if front == nil || !g.free(next) {
			return
		}
		if next == known && g.classes[stranger].ring.Len() > 0 {
			g.turns++
		} else {
			g.turns = 0
		}
		s := front.Value.(*gateSource)
		queue := &s.resumed
		if queue.Len() == 0 {
			queue = &s.fresh
		}
		t := queue.Front().Value.(*Turn)
		g.classes[next].ring.MoveToBack(front)
		g.unwait(t, queue)
		g.take(s)
		t.ready <- struct{}{}
	}
}

// remember notes that a source has proved an identity, and puts it among the
// known, with what it has under way.
func (g *Gate) remember(s *gateSource) {
	if _, is := g.proved[s.addr]; !is && len(g.proved) >= provedMost {
		for other := range g.proved { // any: it proves itself again with its next
			delete(g.proved, other)
			break
		}
	}
	g.proved[s.addr] = time.Now()
	if s.class == known {
		return
	}
	if s.place != nil {
		g.classes[stranger].ring.Remove(s.place)
		s.place = g.classes[known].ring.PushBack(s)
	}
	g.running[stranger] -= s.running
	g.running[known] += s.running
	g.classes[stranger].under -= s.under
	g.classes[known].under += s.under
	s.class = known
}
