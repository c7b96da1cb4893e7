package server

import (
	"iter"
	"net/netip"
	"sync"
	"time"
)

// fanout knows which streams have what, so that a publication wakes those that it concerns and
// no others. Its cost follows what has changed, and the streams that have it.
//
// A stream takes what it was told, looks at the newest snapshot, enters what it has by then
// (moved), and looks whether there is a newer one. A publication stores its snapshot first and
// looks for the streams then. So either finds the other.
type fanout struct {
	mu      sync.Mutex
	streams []*follower // by their numbers; nil: the number is free
	free    []streamID
	nodes   map[string]followers // by node
	numbers *numbers             // of resources
	has     []followers          // by the number of a resource
	asks    map[netip.Addr]followers
	last    uint64                  // version that was published last
	waiting [gatherings][]*follower // by what they wait for: see urgency
}

// move is a change of what a stream has: of a resource, or of an address that it subscribes to.
type move struct {
	id    nameID
	named bool // it is a resource
	on    bool
	addr  netip.Addr
}

func newFanout() *fanout {
	return &fanout{nodes: map[string]followers{}, numbers: newNumbers(), asks: map[netip.Addr]followers{}}
}

// join adds a stream of node.
func (o *fanout) join(node string) *follower {
	f := &follower{node: node, wake: make(chan struct{}, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	if last := len(o.free) - 1; last >= 0 {
		f.id, o.free = o.free[last], o.free[:last]
		o.streams[f.id] = f
	} else {
		f.id = streamID(len(o.streams))
		o.streams = append(o.streams, f)
	}
	enter(o.nodes, node, f.id)
	return f
}

// leave removes a stream that has these resources and subscriptions, and reports whether it
// was the last one of its node.
func (o *fanout) leave(f *follower, st *syncState) (last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.apply(f, st) // it may end after a request, before anything follows from that
	o.streams[f.id] = nil
	o.free = append(o.free, f.id)
	remove(o.nodes, f.node, f.id)
	for _, r := range st.sent {
		o.has[r.id].remove(f.id)
	}
	st.drop()
	for addr := range st.subs {
		remove(o.asks, addr, f.id)
	}
	_, others := o.nodes[f.node]
	return !others
}

// everyone yields all streams, in no particular order.
func (o *fanout) everyone() iter.Seq[*follower] {
	return func(yield func(*follower) bool) {
		for _, f := range o.streams {
			if f != nil && !yield(f) {
				return
			}
		}
	}
}

// each yields these streams.
func (o *fanout) each(of followers) iter.Seq[*follower] {
	return func(yield func(*follower) bool) {
		for id := range of.each {
			if !yield(o.streams[id]) {
				return
			}
		}
	}
}

// named are the streams that have a resource.
func (o *fanout) named(name string) (of followers) {
	if id, known := o.numbers.find(name); known && int(id) < len(o.has) {
		of = o.has[id]
	}
	return of
}

// moved takes in what a stream has now.
func (o *fanout) moved(f *follower, st *syncState) {
	if st.entered && len(st.moves) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.apply(f, st)
}

// apply does what moved does. The caller holds mu.
func (o *fanout) apply(f *follower, st *syncState) {
	for _, m := range st.takeMoves() {
		switch {
		case m.named && m.on:
			o.enter(m.id, f.id)
		case m.named:
			o.has[m.id].remove(f.id)
			o.numbers.release(m.id)
		case m.on:
			enter(o.asks, m.addr, f.id)
		default:
			remove(o.asks, m.addr, f.id)
		}
	}
	if !st.entered {
		st.entered = true
		for _, r := range st.sent {
			o.enter(r.id, f.id)
		}
	}
}

func (o *fanout) enter(name nameID, id streamID) {
	if more := int(name) + 1 - len(o.has); more > 0 {
		o.has = append(o.has, make([]followers, more)...)
	}
	o.has[name].enter(id)
}

// published tells the streams that a snapshot concerns what it has changed for them, and wakes
// them unless that can wait. Those that lose an endpoint are woken first.
func (o *fanout) published(snap *Snapshot) {
	for _, f := range o.tellAll(snap) {
		f.look()
	}
}

// tellAll returns the streams to wake. They are not woken while mu is held, which they need
// next.
func (o *fanout) tellAll(snap *Snapshot) []*follower {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := &round{fanout: o, now: time.Now()}
	changes, known := snap.since(o.last)
	o.last = snap.version
	if !known {
		r.everybody(wideAll)
		return r.woken
	}
	for i := range changes {
		for j := range changes[i].relinked {
			if of := &changes[i].relinked[j]; len(of.gone) > 0 {
				r.tell(o.named(of.service), mention{of.service, true, of.gone}, wideNothing, atOnce)
			}
		}
	}
	for i := range changes {
		r.changed(&changes[i])
	}
	return r.woken
}

// changed tells the streams what one snapshot has changed: those for which syncState.narrow and
// syncState.widely may find something. What Services have lost they were told before.
func (r *round) changed(t *touched) {
	if t.all {
		r.everybody(wideAll)
		return
	}
	if t.ported {
		r.everybody(widePorted)
	}
	if t.egress {
		r.everybody(wideEgress)
	}
	for _, name := range t.names {
		r.tell(r.named(name), mention{name: name}, wideNothing, atOnce)
	}
	for _, name := range t.rerouted {
		r.tell(r.named(name), mention{}, wideAll, atOnce)
	}
	for _, node := range t.nodes {
		r.tell(r.nodes[node], mention{}, wideAll, atOnce)
	}
	for _, addr := range t.held {
		r.tell(r.asks[addr], mention{}, wideAll, atOnce)
	}
	for _, addr := range t.backed {
		r.tell(r.asks[addr], mention{}, wideBacked, atOnce)
	}
	for i := range t.relinked {
		if of := &t.relinked[i]; len(of.gone) == 0 {
			r.tell(r.named(of.service), mention{of.service, true, nil}, wideNothing, soon)
		}
	}
	for _, name := range t.gained {
		r.tell(r.named(name), mention{name: name}, wideNothing, soon)
	}
	for _, c := range t.calm {
		r.calm(c)
	}
}

// calm tells that a pod is ready or not: its own node at once.
func (r *round) calm(c calm) {
	for f := range r.each(r.named(c.name)) {
		u := later
		if f.node == c.node {
			u = atOnce
		}
		r.tellOne(f, mention{name: c.name}, wideNothing, u)
	}
}

func (r *round) everybody(w wide) {
	for f := range r.everyone() {
		r.tellOne(f, mention{}, w, atOnce)
	}
}

// behind returns how many streams are to get something now, or have not answered in time, and
// how many more are to get something that waits for more.
func (o *fanout) behind() (behind, waiting int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for f := range o.everyone() {
		b, w := f.behind(now)
		if b {
			behind++
		}
		if w {
			waiting++
		}
	}
	return behind, waiting
}

// agents returns the number of nodes with a stream.
func (o *fanout) agents() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.nodes)
}
