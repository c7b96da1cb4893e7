package mtls

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// Gate shares the processor among handshakes. Without it, handshakes would take
// the processor from the traffic of established connections. Only a fixed number
// of handshakes compute at a time; each of them holds a slot. A handshake that
// waits for its peer's bytes holds none (Turn), so a peer that stalls does not
// keep others from computing.
//
// Each handshake has a source, and sources take turns. A source that has proved
// an identity is known, and so are the pods of this node; any other source is a
// stranger. A known source is one address. Strangers are counted by mesh.CountedAs:
// one that has a whole IPv6 network to choose addresses from is one source. Known sources go first, and strangers may hold only a share of the
// slots. While strangers wait, at least every fourth slot goes to one of them.
// Handshakes from outside the node are limited in number and in waiting time.
// One above these limits is refused at once.
type Gate struct {
	GateOptions

	mu         sync.Mutex
	running    [2]int // slots held, by class
	classes    [2]class
	sources    map[gateKey]*gateSource // sources with active handshakes
	knownInRow int                     // slots in a row that went to known sources while strangers waited
	proved     map[netip.Addr]time.Time

	waits, refused uint64
}

// GateOptions are the limits of a Gate. Zero means no limit, except for Slots.
type GateOptions struct {
	Slots         int // handshakes that compute at a time; at least one
	StrangerSlots int // of these, handshakes of strangers
	// Limits on active handshakes from outside the node, whether they compute or
	// wait: of all known sources together, and of all strangers together (MaxActive);
	// of one source (MaxPerSource), or of one stranger, if MaxPerStranger is set.
	MaxActive, MaxPerSource, MaxPerStranger int
	// MaxWait is the longest time that a handshake from outside waits to begin.
	MaxWait time.Duration
}

// ErrBusy refuses a handshake from outside because there are too many.
var ErrBusy = errors.New("too many mTLS handshakes at once")

// provedFor is how long a source stays known after it has proved an identity.
// provedMost is how many such sources are remembered.
const (
	provedFor  = time.Hour
	provedMost = 8192
)

// Classes of sources.
const (
	known = iota
	stranger
)

// class holds the sources of a class that have waiting handshakes.
type class struct {
	ring   list.List // of *gateSource, in the order of their turns
	active int       // active handshakes from outside
}

type gateKey struct {
	addr netip.Addr
	own  bool
}

// gateSource is a source with its waiting handshakes. Those that have begun
// (resumed) go before those that have not (fresh).
type gateSource struct {
	gateKey
	class   int
	active  int // active handshakes: computing or waiting
	running int // of these, those that hold a slot
	resumed list.List
	fresh   list.List
	inRing  *list.Element // position in the ring of its class; nil: no handshake waits
}

// Turn is an active handshake. Its methods must be called from the handshake's
// goroutine.
type Turn struct {
	gate    *Gate
	source  *gateSource
	from    netip.Addr
	ready   chan struct{} // receives a value when this waiting handshake gets a slot
	inQueue *list.Element // position in a queue of its source; nil: not waiting

	since    time.Time // when it got the slot that it holds
	computed time.Duration
}

// GateStats are the counters of a Gate. Refused and Waits count since the start.
type GateStats struct {
	Running int    // handshakes that compute
	Waiting int    // handshakes that wait for a slot
	Active  int    // all active handshakes, including those that wait for their peer
	Waits   uint64 // handshakes that had to wait to begin
	Refused uint64
}

// NewGate makes a gate.
func NewGate(o GateOptions) *Gate {
	o.Slots = max(o.Slots, 1)
	return &Gate{GateOptions: o, sources: make(map[gateKey]*gateSource), proved: make(map[netip.Addr]time.Time)}
}

// Enter begins a handshake and returns when it holds a slot. own says that the
// handshake does not come from outside but from the pod of this node with the
// address from. The error is ErrBusy or that of ctx.
func (g *Gate) Enter(ctx context.Context, from netip.Addr, own bool) (*Turn, error) {
	g.mu.Lock()
	from = from.Unmap()
	s := g.source(g.key(from, own))
	if !own && g.atLimit(s) {
		g.refused++
		g.dropIdle(s)
		g.mu.Unlock()
		return nil, ErrBusy
	}
	g.addActive(s, 1)
	t := &Turn{gate: g, source: s, from: from}
	if g.takeSlot(s) {
		g.mu.Unlock()
		t.since = time.Now()
		return t, nil
	}
	g.waits++
	g.enqueue(t, &s.fresh)
	g.mu.Unlock()

	var maxWait <-chan time.Time
	if !own && g.MaxWait > 0 {
		timer := time.NewTimer(g.MaxWait)
		defer timer.Stop()
		maxWait = timer.C
	}
	err := ErrBusy
	select {
	case <-t.ready:
		t.since = time.Now()
		return t, nil
	case <-maxWait:
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.inQueue == nil { // it got a slot in the meantime
		g.releaseSlot(s)
	} else {
		g.dequeue(t, &s.fresh)
	}
	if err == ErrBusy {
		g.refused++
	}
	g.addActive(s, -1)
	return nil, err
}

// Pause gives the slot back while the handshake waits for its peer's bytes.
func (t *Turn) Pause() {
	t.computed += time.Since(t.since)
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	t.gate.releaseSlot(t.source)
}

// Resume waits for a slot after Pause. A handshake that has begun goes before
// those of its source that have not.
func (t *Turn) Resume() {
	g, s := t.gate, t.source
	g.mu.Lock()
	if g.takeSlot(s) {
		g.mu.Unlock()
		t.since = time.Now()
		return
	}
	g.enqueue(t, &s.resumed)
	g.mu.Unlock()
	<-t.ready
	t.since = time.Now()
}

// Leave ends a handshake that holds a slot. proved says that its peer has proved
// an identity; the source is then known.
func (t *Turn) Leave(proved bool) {
	t.computed += time.Since(t.since)
	g, s := t.gate, t.source
	g.mu.Lock()
	defer g.mu.Unlock()
	if proved && !s.own {
		g.makeKnown(s, t.from)
	}
	g.releaseSlot(s)
	g.addActive(s, -1)
}

// Computed returns how long the handshake has held a slot, up to its last Pause or Leave.
func (t *Turn) Computed() time.Duration { return t.computed }

// Stats returns the counters.
func (g *Gate) Stats() GateStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := GateStats{Running: g.running[known] + g.running[stranger], Waits: g.waits, Refused: g.refused}
	for _, from := range g.sources {
		s.Waiting += from.resumed.Len() + from.fresh.Len()
		s.Active += from.active
	}
	return s
}

// key says what a handshake is counted to. The caller holds mu, also in all functions
// below.
func (g *Gate) key(from netip.Addr, own bool) gateKey {
	key := gateKey{from, own}
	if !own && g.sources[key] == nil && !g.isKnown(from) {
		key.addr = mesh.CountedAs(from)
	}
	return key
}

// isKnown reports whether an address has proved an identity of late.
func (g *Gate) isKnown(addr netip.Addr) bool { return time.Since(g.proved[addr]) < provedFor }

// source finds or makes a source. Its class does not expire while it has active
// handshakes.
func (g *Gate) source(key gateKey) *gateSource {
	s := g.sources[key]
	if s == nil {
		s = &gateSource{gateKey: key, class: stranger}
		if key.own || g.isKnown(key.addr) {
			s.class = known
		}
		g.sources[key] = s
	}
	return s
}

// dropIdle deletes a source that has no active handshake.
func (g *Gate) dropIdle(s *gateSource) {
	if s.active == 0 {
		delete(g.sources, s.gateKey)
	}
}

// atLimit reports whether another handshake of this source, from outside, would
// be above a limit.
func (g *Gate) atLimit(s *gateSource) bool {
	most := g.MaxPerSource
	if s.class == stranger && g.MaxPerStranger > 0 {
		most = g.MaxPerStranger
	}
	return most > 0 && s.active >= most || g.MaxActive > 0 && g.classes[s.class].active >= g.MaxActive
}

func (g *Gate) addActive(s *gateSource, n int) {
	s.active += n
	if !s.own {
		g.classes[s.class].active += n
	}
	g.dropIdle(s)
}

// hasSlot reports whether there is a free slot for this class.
func (g *Gate) hasSlot(class int) bool {
	if g.running[known]+g.running[stranger] >= g.Slots {
		return false
	}
	return class == known || g.StrangerSlots <= 0 || g.running[stranger] < g.StrangerSlots
}

func (g *Gate) takeSlot(s *gateSource) bool {
	if !g.hasSlot(s.class) {
		return false
	}
	g.running[s.class]++
	s.running++
	return true
}

func (g *Gate) enqueue(t *Turn, queue *list.List) {
	if t.ready == nil {
		t.ready = make(chan struct{}, 1)
	}
	s := t.source
	t.inQueue = queue.PushBack(t)
	if s.inRing == nil {
		s.inRing = g.classes[s.class].ring.PushBack(s)
	}
}

func (g *Gate) dequeue(t *Turn, queue *list.List) {
	queue.Remove(t.inQueue)
	t.inQueue = nil
	g.leaveRing(t.source)
}

// leaveRing takes a source without waiting handshakes out of the ring.
func (g *Gate) leaveRing(s *gateSource) {
	if s.inRing != nil && s.resumed.Len()+s.fresh.Len() == 0 {
		g.classes[s.class].ring.Remove(s.inRing)
		s.inRing = nil
	}
}

// releaseSlot takes a slot back and gives free slots to the next handshakes.
func (g *Gate) releaseSlot(s *gateSource) {
	g.running[s.class]--
	s.running--
	g.grantSlots()
}

func (g *Gate) grantSlots() {
	for {
		next := known
		if g.classes[stranger].ring.Len() > 0 && g.hasSlot(stranger) && (g.classes[known].ring.Len() == 0 || g.knownInRow >= 3) {
			next = stranger
		}
		front := g.classes[next].ring.Front()
		if front == nil || !g.hasSlot(next) {
			return
		}
		if next == known && g.classes[stranger].ring.Len() > 0 {
			g.knownInRow++
		} else {
			g.knownInRow = 0
		}
		s := front.Value.(*gateSource)
		queue := &s.resumed
		if queue.Len() == 0 {
			queue = &s.fresh
		}
		t := queue.Front().Value.(*Turn)
		g.classes[next].ring.MoveToBack(front)
		g.dequeue(t, queue)
		g.takeSlot(s)
		t.ready <- struct{}{}
	}
}

// makeKnown records that an address, whose handshake is counted to s, has proved an
// identity. If s is that address it moves, with its active handshakes, to the known
// sources. Otherwise s is a network, whose other addresses have proved nothing.
func (g *Gate) makeKnown(s *gateSource, addr netip.Addr) {
	if _, is := g.proved[addr]; !is && len(g.proved) >= provedMost {
		for other := range g.proved { // any one: its next handshake proves it again
			delete(g.proved, other)
			break
		}
	}
	g.proved[addr] = time.Now()
	if s.class == known || s.addr != addr {
		return
	}
	if s.inRing != nil {
		g.classes[stranger].ring.Remove(s.inRing)
		s.inRing = g.classes[known].ring.PushBack(s)
	}
	g.running[stranger] -= s.running
	g.running[known] += s.running
	g.classes[stranger].active -= s.active
	g.classes[known].active += s.active
	s.class = known
}
