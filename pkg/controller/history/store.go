package history

import (
	"maps"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/underlane/underlane/pkg/figures"
)

// What a Store keeps.
const (
	Minute = time.Minute     // the length of a fine step
	Coarse = 5 * time.Minute // the length of a step that is older than Fine
	Fine   = 3 * time.Hour
	Keep   = 24 * time.Hour
)

// DefaultBytes is the default budget of a Store.
const DefaultBytes = 64 << 20

// The same in minutes.
const (
	perCoarse = int64(Coarse / Minute)
	fine      = int64(Fine / Minute)
	keep      = int64(Keep / Minute)
)

// recent is how many minutes agents may still be asked for: they remember 15.
const recent = 13

// bytesPerEdge is the part of the budget that makes room for one more edge.
const bytesPerEdge = 2400

// Store keeps the figures of all workloads. It is safe for concurrent use.
//
// It is made of layers, each of which embeds the one below it and uses none above: edgeTable,
// timeline. Store itself has the lock, and what collectors and readers call.
type Store struct {
	mu sync.Mutex
	timeline
	// complete is the minute after the last one that may be read.
	complete int64
}

// timeline has the steps, and keeps them within the budget (budget.go, shares.go, sums.go).
// Store.mu guards it.
type timeline struct {
	edgeTable
	reasons *reasons
	steps   []*step // ascending
	sums    sums
	packed  int // bytes of all blocks
	shares  shares
	packer  packer
	// trimmed is the minute before which steps were left out because of the budget.
	trimmed int64
}

// edgeTable numbers the edges, and bounds how many there are: all together, and of each node.
type edgeTable struct {
	bytes, maxEdges int // the budget

	names           names
	number          map[interned]int
	edges           []*edge        // by number; nil: free
	free            []int          // numbers
	owned           map[string]int // edges by the node whose agent has reported them first
	named           map[string]int // bytes of the names of these edges
	folded, dropped uint64         // requests and connections
}

// step is a minute, or five of them. What a snapshot has of it is not changed: slices are
// replaced or appended to.
type step struct {
	start   int64    // in minutes since the Unix epoch; a multiple of length
	length  int64    // in minutes
	covered int64    // minutes for which at least one agent has answered
	asked   int      // agents
	waiting []string // nodes whose agents have not answered yet, and may still
	missing []string // nodes of whose agents nothing is kept; sorted
	blocks  []block  // their records are to be added
}

// NewStore makes an empty Store with a budget of so many bytes; 0 is DefaultBytes.
func NewStore(bytes int) *Store {
	if bytes <= 0 {
		bytes = DefaultBytes
	}
	s := &Store{}
	s.bytes, s.maxEdges, s.reasons = bytes, max(64, bytes/bytesPerEdge), newReasons(nil)
	s.clear()
	return s
}

func (s *timeline) clear() {
	s.names, s.number, s.owned, s.named = newNames(), map[interned]int{}, map[string]int{}, map[string]int{}
	s.edges, s.free, s.steps, s.sums, s.packed = nil, nil, nil, sums{}, 0
}

// begin adds the steps of minutes up to last, which the agents of these nodes are asked
// for. The first call after a while adds those that the agents still remember.
func (s *Store) begin(last int64, nodes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares.begin(nodes)
	first := max(last-recent+1, s.complete)
	if n := len(s.steps); n > 0 {
		end := s.steps[n-1].start + s.steps[n-1].length
		if end > last+recent {
			// The clock was set back. What was kept for times that are to come is wrong.
			s.steps = slices.DeleteFunc(s.steps, func(st *step) bool { return st.start+st.length > last })
			s.sums.drop(func(st *step) bool { return st.start+st.length > last })
			s.count()
			end, first = 0, last-recent+1
		}
		first = max(first, end)
	}
	if len(nodes) == 0 && first < last {
		// There may have been pods in the mesh while the controller did not look. An agent
		// would know that, and there is none to ask.
		return
	}
	for ; first <= last; first++ {
		st := &step{start: first, length: 1, asked: len(nodes), waiting: slices.Clone(nodes)}
		if len(nodes) == 0 {
			st.covered = 1 // a minute without a pod in the mesh: there was nothing to know
		}
		s.steps = append(s.steps, st)
	}
}

// count counts the bytes of all blocks.
func (s *timeline) count() {
	s.packed = 0
	for _, st := range slices.Concat(s.steps, s.sums.all()) {
		for _, b := range st.blocks {
			s.packed += cap(b.data)
		}
	}
}

// awaits returns for each node the first minute whose figures are still missing.
func (s *Store) awaits() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int64{}
	for _, st := range s.steps {
		for _, node := range st.waiting {
			if _, ok := out[node]; !ok {
				out[node] = st.start
			}
		}
	}
	return out
}

// pending are figures of minutes that are being added: by minute, by the owner of the block
// that they go into, and by edge.
type pending map[int64]map[string]map[int]*figures.Sums

// part returns the figures of a minute that go into the block of an owner.
func (p pending) part(minute int64, owner string) map[int]*figures.Sums {
	if p[minute] == nil {
		p[minute] = map[string]map[int]*figures.Sums{}
	}
	if p[minute][owner] == nil {
		p[minute][owner] = map[int]*figures.Sums{}
	}
	return p[minute][owner]
}

// answered adds what the agent of a node says of the minutes from first on, each of
// which is a point of the edges, to p. It counts for the minutes that wait for the node,
// and of these for those from since on; before that the agent has forgotten.
func (s *Store) answered(p pending, node string, first, minutes, since int64, edges []figures.Edge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	weights := make([]int, minutes)
	for i := range edges {
		for j, sums := range edges[i].Points {
			if sums != nil && j < len(weights) {
				weights[j] += weight(sums)
			}
		}
	}
	wanted := make([]map[int]*figures.Sums, minutes)
	for _, st := range s.steps {
		i := slices.Index(st.waiting, node)
		if i < 0 || st.start < first || st.start >= first+minutes {
			continue
		}
		st.waiting = slices.Delete(slices.Clone(st.waiting), i, i+1)
		if st.start < since {
			st.miss(node)
			continue
		}
		st.covered = 1
		wanted[st.start-first] = p.part(st.start, s.owner(node, weights[st.start-first]))
		s.shares.weights[node] = weights[st.start-first]
	}
	for i := range edges {
		e := &edges[i]
		for j, sums := range e.Points {
			if sums != nil && j < len(wanted) && wanted[j] != nil {
				s.add(wanted[j], node, e.Key, sums)
			}
		}
	}
}

func (st *step) miss(node string) {
	if i, found := slices.BinarySearch(st.missing, node); !found {
		st.missing = slices.Insert(slices.Clone(st.missing), i, node)
	}
}

// instead adds what the agent of a node says in place of those that have not answered.
func (s *Store) instead(p pending, minute int64, node string, edges []figures.Edge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	for i := range edges {
		if e := &edges[i]; len(e.Points) > 0 && e.Points[0] != nil {
			total += weight(e.Points[0])
		}
	}
	to := p.part(minute, s.owner(node, total))
	for i := range edges {
		if e := &edges[i]; len(e.Points) > 0 && e.Points[0] != nil {
			s.add(to, node, e.Key, e.Points[0])
		}
	}
}

// add adds the figures of an edge in a minute.
func (s *edgeTable) add(to map[int]*figures.Sums, node string, k figures.Key, sums *figures.Sums) {
	events := sums.Requests() + sums.Opened
	if !plausible(&k) {
		s.dropped += events
		return
	}
	id, whole := s.place(node, workloads(k))
	if !whole {
		if id < 0 {
			s.dropped += events
			return
		}
		s.folded += events
	}
	if to[id] == nil {
		to[id] = new(figures.Sums)
	}
	to[id].Add(sums)
}

// place returns the number of k's edge, of the one that it folds into (whole is false), or
// -1. An eighth of all edges is for each agent, and a sixteenth of the budget for their
// names, so that one that lies does not take the place of others.
func (s *edgeTable) place(node string, k figures.Key) (id int, whole bool) {
	for stage, limit := range []struct{ all, each int }{
		{s.maxEdges, max(s.maxEdges/8, 16)}, {s.maxEdges * 5 / 4, max(s.maxEdges/6, 24)},
	} {
		if stage > 0 {
			k = fold(k)
		}
		if short, known := s.names.intern(&k, false); known {
			if id, ok := s.number[short]; ok {
				return id, stage == 0
			}
		}
		if len(s.number) < limit.all && s.owned[node] < limit.each && s.named[node]+nameBytes(&k) <= s.bytes/16 {
			short, _ := s.names.intern(&k, true)
			return s.insert(short, node), stage == 0
		}
	}
	return -1, false
}

func (s *edgeTable) insert(k interned, node string) int {
	id := len(s.edges)
	if n := len(s.free); n > 0 {
		id, s.free = s.free[n-1], s.free[:n-1]
	} else {
		s.edges = append(s.edges, nil)
	}
	e := newEdge(k, s.names.text(node), 0)
	s.edges[id], s.number[k] = e, id
	s.own(e)
	return id
}

// commit adds the blocks of p.
func (s *Store) commit(p pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, minute := range slices.Sorted(maps.Keys(p)) {
		st := s.at(minute)
		if st == nil || len(p[minute]) == 0 {
			continue
		}
		for _, owner := range slices.Sorted(maps.Keys(p[minute])) {
			for id := range p[minute][owner] {
				if last := &s.edges[id].last; last.Load() < minute {
					last.Store(minute)
				}
			}
			st.add(&s.timeline, owner, p[minute][owner])
		}
	}
	clear(p)
}

// add adds blocks with these figures.
func (st *step) add(s *timeline, owner string, sums map[int]*figures.Sums) {
	var ids [numClasses][]int
	for _, id := range slices.Sorted(maps.Keys(sums)) {
		c := s.edges[id].class
		ids[c] = append(ids[c], id)
	}
	st.blocks = slices.Clip(st.blocks) // what a query reads is not appended to
	for c := range numClasses {
		if len(ids[c]) > 0 {
			plain := st.length > perCoarse // a sum
			data := s.packer.pack(s.reasons, ids[c], sums, plain)
			st.blocks = append(st.blocks, block{owner, c, plain, data})
			s.packed += cap(data)
		}
	}
}

// at returns the step of a minute that is kept as one.
func (s *timeline) at(minute int64) *step {
	i, found := slices.BinarySearchFunc(s.steps, minute, func(st *step, m int64) int { return int(st.start - m) })
	if !found || s.steps[i].length != 1 {
		return nil
	}
	return s.steps[i]
}

// missed gives up what agents have not said of minutes up to last, and returns the minutes
// for which the agents of other nodes can say something instead, with the silent nodes.
func (s *Store) missed(last int64) map[int64][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int64][]string{}
	for _, st := range s.steps {
		if st.length > 1 || st.start > last {
			continue
		}
		for _, node := range st.waiting {
			st.miss(node)
		}
		st.waiting = nil
		if st.start == last && st.covered > 0 && len(st.missing) > 0 {
			out[st.start] = st.missing
		}
	}
	// Where no agent has answered, the controller knows as much as if it had been away.
	s.steps = slices.DeleteFunc(s.steps, func(st *step) bool { return st.covered == 0 && len(st.waiting) == 0 && st.asked > 0 })
	return out
}

// size estimates the memory of all that is kept, in bytes.
func (s *timeline) size() int {
	const perEdge = int(unsafe.Sizeof(edge{})) + 8 + (int(unsafe.Sizeof(interned{}))+8)*3/2
	const perStep = int(unsafe.Sizeof(step{})) + 8
	total := s.packed + len(s.edges)*perEdge + s.names.size()
	for _, st := range slices.Concat(s.steps, s.sums.all()) {
		total += perStep + int(unsafe.Sizeof(block{}))*len(st.blocks) + 16*(len(st.missing)+len(st.waiting))
	}
	return total
}

// finish makes the minutes up to last readable, and keeps the budget.
func (s *Store) finish(last int64) {
	s.mu.Lock()
	s.complete = last + 1
	s.mu.Unlock()
	s.maintain(last)
}

// until returns the minute after the last one that was asked for.
func (s *Store) until() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}

// Stats are the sizes of a Store.
type Stats struct {
	Bytes, Edges int
	Since, Until time.Time // what is kept; zero: nothing
}

// Stats returns the sizes.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{Bytes: s.size(), Edges: len(s.number)}
	if len(s.steps) > 0 {
		out.Since, out.Until = at(s.steps[0].start), at(s.complete)
	}
	return out
}
