package history

import (
	"maps"
	"math"
	"slices"

	"github.com/underlane/underlane/pkg/figures"
)

// maintain makes steps of five minutes of those that are old, drops those that are too
// old, and keeps the Store within its budget: first the oldest sums of quarters of an hour
// go, then the oldest blocks of nodes that have more than their share, then the oldest fine
// steps become coarse ones, then the oldest steps go. last is the newest minute.
func (s *Store) maintain(last int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.coarsen(last - fine + 1) {
	}
	s.join(last)
	if s.drop(last-keep+1) || last%60 == 0 {
		s.forget()
	}
	for s.size() > s.bytes && len(s.steps) > 0 {
		if s.dropSum() || s.evict() || s.coarsen(last-recent+1) {
			continue
		}
		// There are only coarse steps, and those that agents may still be asked for. Where
		// these alone are too much, there is no history.
		s.trimmed = s.steps[0].start + s.steps[0].length
		s.drop(s.trimmed)
		s.forget()
	}
}

// drop drops the steps that have ended before a minute.
func (s *timeline) drop(before int64) bool {
	n := len(s.steps)
	s.steps = slices.DeleteFunc(s.steps, func(st *step) bool { return st.start+st.length <= before })
	if len(s.steps) == n {
		return false
	}
	s.sums.drop(func(st *step) bool { return st.start < before })
	s.count()
	return true
}

// coarsen makes one step of the oldest five minutes that are kept one by one, if they are
// before a minute, and reports whether it has done so.
func (s *timeline) coarsen(before int64) bool {
	first := slices.IndexFunc(s.steps, func(st *step) bool { return st.length == 1 })
	if first < 0 {
		return false
	}
	start := s.steps[first].start - s.steps[first].start%perCoarse
	if start+perCoarse > before {
		return false
	}
	end := first
	for end < len(s.steps) && s.steps[end].start < start+perCoarse {
		end++
	}
	joined := &step{start: start, length: perCoarse}
	a := adder{from: s, open: map[int]int64{}, sums: map[string]map[int]*figures.Sums{}}
	for _, st := range s.steps[first:end] {
		joined.covered += st.covered
		joined.asked = max(joined.asked, st.asked)
		for _, node := range append(slices.Clone(st.missing), st.waiting...) {
			joined.miss(node)
		}
		a.step(st)
		for _, b := range st.blocks {
			s.packed -= cap(b.data)
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(a.sums)) {
		joined.add(s, owner, a.sums[owner])
	}
	s.steps = slices.Replace(s.steps, first, end, joined)
	return true
}

// adder adds up steps that follow each other.
type adder struct {
	from *timeline
	in   unpacker
	sums map[string]map[int]*figures.Sums // by the owner of the blocks, and by edge
	open map[int]int64                    // by edge: the last minute that was added
}

// step adds a step. A block that is broken, which no Store writes, is left out from there.
func (a *adder) step(st *step) {
	for _, b := range st.blocks {
		own := a.sums[b.owner]
		if own == nil {
			own = map[int]*figures.Sums{}
			a.sums[b.owner] = own
		}
		_ = a.in.each(a.from.reasons, &b, func(id int) *figures.Sums {
			if id >= len(a.from.edges) || a.from.edges[id] == nil {
				return nil
			}
			sums := own[id]
			if sums == nil {
				sums = a.in.newSums()
				own[id] = sums
			}
			return sums
		}, func(id int, open uint64) {
			if a.open[id] != st.start { // only what is open at the end counts
				a.open[id] = st.start
				for _, sums := range a.sums {
					if sums[id] != nil {
						sums[id].Open = 0
					}
				}
			}
			own[id].Open += open
		})
	}
}

// forget drops the edges that are in no step any more, and their names.
func (s *timeline) forget() {
	oldest := int64(math.MaxInt64)
	if len(s.steps) > 0 {
		oldest = s.steps[0].start
	}
	gone := false
	for id, e := range s.edges {
		if e != nil && e.last.Load() < oldest {
			s.edges[id], gone = nil, true
			s.free = append(s.free, id)
		}
	}
	if !gone {
		return
	}
	s.names, s.number, s.owned, s.named = newNames(), map[interned]int{}, map[string]int{}, map[string]int{}
	// What a query reads at this moment has the old edges: they are replaced, not changed.
	edges := make([]*edge, len(s.edges))
	for id, e := range s.edges {
		if e == nil {
			continue
		}
		k := e.key.key()
		short, _ := s.names.intern(&k, true)
		edges[id] = newEdge(short, s.names.text(e.node), e.last.Load())
		s.number[short] = id
		s.own(edges[id])
	}
	s.edges = edges
}
