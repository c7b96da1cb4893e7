package figures

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Window is how long the windows are in which a Store counts. They begin at multiples of
// it since the Unix epoch, so that the windows of several nodes are the same.
const Window = 10 * time.Second

// Defaults of Options.
const (
	DefaultWindows = 90
	DefaultEdges   = 1000
	DefaultBytes   = 4 << 20
)

// Options configure a Store. All fields may be zero.
type Options struct {
	Windows int // that have ended and are kept; default DefaultWindows
	// Edges bounds the keys that are counted one by one; default DefaultEdges. When there
	// are so many, or an eighth of them is of one pod of the node, a new key is folded: it
	// is counted without the names of its pods. When there are a quarter more, or an eighth
	// is of one workload, it is counted without the name of its peer, as "other", and when
	// there are half more, it is dropped. So a pod that connects to everything does not
	// take the place of others. Whatever the others do, each pod has some keys.
	Edges int
	// Bytes bounds the memory of the whole Store; default DefaultBytes. The oldest windows
	// are dropped when they do not fit.
	Bytes int
	// Beside returns the bytes of other memory that Bytes is for; nil: none.
	Beside func() int
}

// Store remembers what an agent's node does. It is a tap.Sink. Emit takes no lock and
// allocates nothing for a key that it has seen lately.
type Store struct {
	opt Options

	// recent has the edges by the events' own pointers. It is replaced when it is to change.
	recent          atomic.Pointer[recent]
	folded, dropped atomic.Uint64 // events

	turn    sync.Mutex      // held to read or drain the counters of edges; taken before mu
	mu      sync.Mutex      // of what follows; held for a moment only
	missed  map[fast]target // what is not in recent yet
	misses  int             // lookups of these since recent was made
	edges   map[interned]*edge
	byID    []*edge // nil: the number is free
	names   names
	owned   map[*End]int // edges by their end at the agent's node
	windows []window     // that have ended, oldest first
	bytes   int          // of windows
	current int64        // number of the window that is being filled; changed with both locks
	began   int64        // what was before this window is not remembered
	made    time.Time    // likewise, inside the first window
}

// target is where events are counted. edge is nil if they are dropped.
type target struct {
	edge   *edge
	folded bool
}

// edge is the traffic of one key.
type edge struct {
	key  interned
	id   int
	last int64 // the last window in which it had something to say; owned by turn
	live live
}

// window is a window that has ended: for each edge its number, as the difference to the
// one before, and what live.encode made.
type window struct {
	number int64
	data   []byte
}

// recentEvery is the time after which the Store looks for the edges by their keys again,
// so that it does not hold on to pods and services that have been replaced.
const recentEvery = 6 // windows

// NewStore makes an empty Store whose first window has begun at now.
func NewStore(opt Options, now time.Time) *Store {
	if opt.Windows == 0 {
		opt.Windows = DefaultWindows
	}
	if opt.Edges == 0 {
		opt.Edges = DefaultEdges
	}
	if opt.Bytes == 0 {
		opt.Bytes = DefaultBytes
	}
	s := &Store{opt: opt, missed: map[fast]target{}, edges: map[interned]*edge{}, names: newNames(), owned: map[*End]int{}}
	s.recent.Store(&recent{})
	s.current = windowOf(now)
	s.began, s.made = s.current, now
	return s
}

func windowOf(t time.Time) int64 { return t.Unix() / int64(Window/time.Second) }

// Run ends the windows in time, until ctx is done.
func (s *Store) Run(ctx context.Context) {
	for {
		now := time.Now()
		timer := time.NewTimer(now.Truncate(Window).Add(Window).Sub(now))
		select {
		case <-timer.C:
			s.Rotate(time.Now())
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Emit implements tap.Sink. A call between two pods of one node passes the proxy once.
// Emit counts it for both sides, as telemetry.Metrics does: outbound for the client and
// inbound for the server.
func (s *Store) Emit(e *tap.Event) {
	switch e.Kind {
	case tap.ResponseEnd, tap.ConnOpen, tap.ConnClose:
	case tap.LegOpen, tap.LegClose, tap.Grown:
		if e.Side != 0 && e.Side != wire(e.Direction) {
			return
		}
	default:
		return
	}
	s.count(e, e.Direction)
	if e.TLS == tap.TLSSameNode && e.Direction == mesh.Outbound {
		s.count(e, mesh.Inbound)
	}
}

// Wants implements tap.Chooser.
func (s *Store) Wants(k tap.Kind) bool { return k != tap.RequestInit && k != tap.ResponseInit }

// wire returns the side of the proxy's connection that leads to the other pod. The
// connection between the proxy and its own pod is not counted: a pod that makes a new one
// for each request would seem to make as many to the other pod.
func wire(d mesh.Direction) tap.Side {
	if d == mesh.Inbound {
		return tap.ClientSide
	}
	return tap.ServerSide
}

func (s *Store) count(e *tap.Event, direction mesh.Direction) {
	f := fastOf(e, direction)
	t, ok := s.recent.Load().find(&f)
	if !ok {
		t = s.find(&f)
	}
	if t.folded {
		s.folded.Add(1)
	}
	if t.edge == nil {
		s.dropped.Add(1)
		return
	}
	t.edge.live.count(e)
}

// find returns the target of a key that recent does not have.
func (s *Store) find(f *fast) target {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.missed[*f]
	if !ok {
		if t, ok = s.recent.Load().all[*f]; ok {
			return t
		}
		t = s.place(f.key())
		s.missed[*f] = t
	}
	// Copying all of recent is for many that were missed, or for few that are missed often.
	s.misses++
	if recent := len(s.recent.Load().all); len(s.missed) > 16+recent/4 || s.misses > len(s.missed)+recent {
		s.publish()
	}
	return t
}

// publish moves what was missed to recent. What a client makes up must not grow it
// without bound: a map that is too large is dropped, and grows again with what is in use.
func (s *Store) publish() {
	old := s.recent.Load().all
	next := make(map[fast]target, len(old)+len(s.missed))
	if len(old) <= 2*s.opt.Edges {
		for f, t := range old {
			next[f] = t
		}
	}
	for f, t := range s.missed {
		next[f] = t
	}
	s.recent.Store(&recent{all: next})
	s.missed, s.misses = map[fast]target{}, 0
}

// place returns the edge of a key, of the key that it folds into, or none.
func (s *Store) place(k Key) target {
	for stage, fold := range []func(Key) Key{func(k Key) Key { return k }, Key.foldPods, Key.foldPeer} {
		k = fold(k)
		if short, ok := s.names.intern(&k, false); ok && s.edges[short] != nil {
			return target{s.edges[short], stage > 0}
		}
		if s.room(stage, k.own()) {
			short, _ := s.names.intern(&k, true)
			return target{s.insert(short), stage > 0}
		}
	}
	return target{nil, false}
}

// reserved is how many keys each pod, and each workload with folded ones, has whatever the
// others do.
const reserved = 4

// room reports whether own, the end of the agent's node, may have one more key that has
// been folded so often.
func (s *Store) room(stage int, own *End) bool {
	has, all, edges := s.owned[s.names.ends[*own]], len(s.edges), s.opt.Edges
	if stage != 1 && has < reserved {
		return all < 2*edges
	}
	switch stage {
	case 0:
		return all < edges && has < edges/8
	case 1:
		return all < edges*5/4 && has < edges/8
	}
	return all < edges*3/2 && has < edges/4
}

func (s *Store) insert(key interned) *edge {
	e := &edge{key: key, last: s.current}
	for e.id < len(s.byID) && s.byID[e.id] != nil {
		e.id++
	}
	if e.id == len(s.byID) {
		s.byID = append(s.byID, nil)
	}
	s.byID[e.id] = e
	s.edges[key] = e
	s.owned[key.own()]++
	return e
}
