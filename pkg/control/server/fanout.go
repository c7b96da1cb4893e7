package server

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// fanout knows which streams have what, so that a publication wakes those that it concerns and
// no others. Its cost follows what has changed, and the streams that have it.
//
// A stream looks at a snapshot, enters what it has by then (moved), and looks whether there is
// a newer one. A publication stores its snapshot first and looks for the streams then. So
// either finds the other.
type fanout struct {
	mu    sync.Mutex
	all   map[*follower]struct{}
	nodes map[string]followers // by node
	has   map[string]followers // by the name of a resource
	asks  map[netip.Addr]followers
	last  uint64 // version that was published last
}

// follower is a stream as seen by a fanout.
type follower struct {
	node string
	wake chan struct{} // receives when there is something in from
	// from is the version of the first snapshot that concerns the stream since it last looked;
	// 0: none does.
	from atomic.Uint64
	// busy: the agent has not answered everything. It is set before from is taken.
	busy   atomic.Bool
	leaves atomic.Bool // it is to end: see Server.MoveOn
}

// concern notes that a version concerns the stream.
func (f *follower) concern(version uint64) {
	if f.from.Load() == 0 && f.from.CompareAndSwap(0, version) {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// move is a change of what a stream has: of a resource, or without a name of an address that
// it subscribes to.
type move struct {
	name string
	addr netip.Addr
	on   bool
}

func newFanout() *fanout {
	return &fanout{
		all: map[*follower]struct{}{}, nodes: map[string]followers{}, has: map[string]followers{}, asks: map[netip.Addr]followers{},
	}
}

// join adds a stream of node.
func (o *fanout) join(node string) *follower {
	f := &follower{node: node, wake: make(chan struct{}, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[f] = struct{}{}
	enter(o.nodes, node, f)
	return f
}

// leave removes a stream that has these resources and subscriptions, and reports whether it
// was the last one of its node.
func (o *fanout) leave(f *follower, st *syncState) (last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, f)
	remove(o.nodes, f.node, f)
	for name := range st.sent {
		remove(o.has, name, f)
	}
	for addr := range st.subs {
		remove(o.asks, addr, f)
	}
	_, others := o.nodes[f.node]
	return !others
}

// moved takes in what a stream has now.
func (o *fanout) moved(f *follower, moves []move) {
	if len(moves) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range moves {
		switch m := &moves[i]; {
		case m.name != "" && m.on:
			enter(o.has, m.name, f)
		case m.name != "":
			remove(o.has, m.name, f)
		case m.on:
			enter(o.asks, m.addr, f)
		default:
			remove(o.asks, m.addr, f)
		}
	}
}

// published wakes the streams that a snapshot concerns. Those that lose an endpoint are woken
// first.
func (o *fanout) published(snap *Snapshot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	changes, known := snap.since(o.last)
	o.last = snap.version
	if !known {
		o.wakeAll(snap.version)
		return
	}
	for i := range changes {
		t := &changes[i]
		for j := range t.relinked {
			if len(t.relinked[j].gone) > 0 {
				o.has[t.relinked[j].service].concern(t.version)
			}
		}
	}
	for i := range changes {
		o.changed(&changes[i])
	}
}

// changed wakes the streams that one snapshot concerns: those for which syncState.narrow and
// syncState.widely may find something. The caller holds mu.
func (o *fanout) changed(t *touched) {
	if t.all || t.ported || t.egress {
		o.wakeAll(t.version)
		return
	}
	for _, name := range t.names {
		o.has[name].concern(t.version)
	}
	for i := range t.relinked {
		o.has[t.relinked[i].service].concern(t.version)
	}
	for _, name := range t.rerouted {
		o.has[name].concern(t.version)
	}
	for _, node := range t.nodes {
		o.nodes[node].concern(t.version)
	}
	for _, addr := range t.held {
		o.asks[addr].concern(t.version)
	}
	for _, addr := range t.backed {
		o.asks[addr].concern(t.version)
	}
}

func (o *fanout) wakeAll(version uint64) {
	for f := range o.all {
		f.concern(version)
	}
}

// behind returns how many streams are to get something, or have not answered.
func (o *fanout) behind() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for f := range o.all {
		if f.from.Load() != 0 || f.busy.Load() {
			n++
		}
	}
	return n
}

// agents returns the number of nodes with a stream.
func (o *fanout) agents() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.nodes)
}

// followers is a set of streams. Most have few, and some have all agents.
type followers struct {
	few  []*follower
	many map[*follower]struct{}
}

// fewFollowers is up to how many streams are searched one by one.
const fewFollowers = 32

func enter[K comparable](in map[K]followers, k K, f *follower) {
	s := in[k]
	switch {
	case s.many != nil:
		s.many[f] = struct{}{}
		return
	case len(s.few) < fewFollowers:
		s.few = append(s.few, f)
	default:
		s.many = make(map[*follower]struct{}, 2*fewFollowers)
		for _, other := range s.few {
			s.many[other] = struct{}{}
		}
		s.few = nil
		s.many[f] = struct{}{}
	}
	in[k] = s
}

func remove[K comparable](in map[K]followers, k K, f *follower) {
	s := in[k]
	if s.many != nil {
		if delete(s.many, f); len(s.many) == 0 {
			delete(in, k)
		}
		return
	}
	for i, other := range s.few {
		if other == f {
			last := len(s.few) - 1
			s.few[i], s.few[last] = s.few[last], nil
			s.few = s.few[:last]
			break
		}
	}
	if len(s.few) == 0 {
		delete(in, k)
	} else {
		in[k] = s
	}
}

func (s followers) concern(version uint64) {
	for _, f := range s.few {
		f.concern(version)
	}
	for f := range s.many {
		f.concern(version)
	}
}
