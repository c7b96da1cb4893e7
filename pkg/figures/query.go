package figures

import (
	"slices"
	"time"
)

// Query asks a Store for what happened in a time.
type Query struct {
	// Start and End bound the time. Start is rounded down to a whole Window. What was
	// forgotten is empty; what is long before or after the present is left out.
	Start, End time.Time
	// Step is the time that one point of the answer covers, a multiple of Window; 0: the
	// whole time is one point.
	Step time.Duration
	// Group returns the key under which a key is counted in the answer, and false if it
	// is not. nil: every key for itself.
	Group func(Key) (Key, bool)
}

// Result is the answer to a Query.
type Result struct {
	Start, End time.Time     // that were asked for, Start rounded down
	Step       time.Duration // that one point covers; the last one may cover less
	Since      time.Time     // what was before is not remembered
	Edges      []Edge        // in no order
	// Folded and Dropped are the events since the agent's start that were counted without
	// the names of pods or peers, and not at all.
	Folded, Dropped uint64
}

// Edge is what happened between two ends.
type Edge struct {
	Key    Key
	Points []*Sums // by Step, from Start on; nil: nothing
}

// Total returns the sums of all points.
func (e *Edge) Total() *Sums {
	total := new(Sums)
	for _, p := range e.Points {
		if p != nil {
			total.Then(p)
		}
	}
	return total
}

// Bounds of a Query: points of an answer, and how far it may reach back.
const (
	maxPoints = 10_000
	maxSpan   = 48 * time.Hour
)

// Query answers q. now is the present: the window that is being filled counts, too.
func (s *Store) Query(q Query, now time.Time) *Result {
	s.turn.Lock()
	s.rotate(now)
	s.mu.Lock()
	windows, edges, current, began := slices.Clone(s.windows), slices.Clone(s.byID), s.current, s.began
	s.mu.Unlock()
	windows = append(windows, window{current, encode(edges, false, current)})
	s.turn.Unlock()

	if oldest := now.Add(-maxSpan); q.Start.Before(oldest) {
		q.Start = oldest
	}
	if q.End.After(now.Add(Window)) {
		q.End = now.Add(Window)
	}
	start := q.Start.Truncate(Window)
	r := &Result{
		Start: start, End: q.End, Step: min(q.Step, maxSpan).Truncate(Window),
		Since:  time.Unix(began*int64(Window/time.Second), 0),
		Folded: s.folded.Load(), Dropped: s.dropped.Load(),
	}
	if s.made.After(r.Since) && !s.made.After(now) {
		r.Since = s.made
	}
	span := max(0, q.End.Sub(start))
	if r.Step <= 0 || span/r.Step > maxPoints {
		r.Step = max(Window, (span + Window - 1).Truncate(Window))
	}
	a := answer{
		Result: r, group: q.Group, store: edges, indexes: make([]int, len(edges)), groups: map[Key]int{},
		first: windowOf(start), end: min(windowOf(start)+int64((span+Window-1)/Window), current+1),
		points: int((span + r.Step - 1) / r.Step),
	}
	for _, w := range windows {
		a.add(w)
	}
	return r
}

// answer is a Result that is being made.
type answer struct {
	*Result
	group      func(Key) (Key, bool)
	store      []*edge
	indexes    []int // of the store's edges in Edges, plus 1; 0: not known yet; -1: not asked for
	groups     map[Key]int
	first, end int64   // numbers of the first window, and of the one after the last
	points     int     // of each edge
	last       []int64 // for each of Edges the last window that was added
}

func (a *answer) point(number int64) int {
	return int(time.Duration(number-a.first) * Window / a.Step)
}

// add adds a window.
func (a *answer) add(w window) {
	if w.number < a.first || w.number >= a.end {
		return
	}
	point := a.point(w.number)
	in := reader{buf: w.data}
	var skipped Sums
	for id := -1; len(in.buf) > 0; {
		id += int(in.number()) + 1
		i := a.index(id)
		if i < 0 {
			in.add(&skipped)
			continue
		}
		e := &a.Edges[i]
		if e.Points == nil {
			e.Points = make([]*Sums, a.points)
		}
		if e.Points[point] == nil {
			e.Points[point] = new(Sums)
		}
		sums := e.Points[point]
		if a.last[i] != w.number {
			// Only what is open in the last window counts. A window in which connections
			// are open, or closed, is never empty.
			a.last[i], sums.Open = w.number, 0
		}
		sums.Open += in.add(sums)
	}
}

// index returns the edge of the answer for the store's edge with this number, -1 if it is
// not asked for.
func (a *answer) index(id int) int {
	if id >= len(a.indexes) || a.store[id] == nil {
		return -1
	}
	if i := a.indexes[id]; i != 0 {
		return max(i-1, -1)
	}
	key := a.store[id].key.key()
	if a.group != nil {
		var asked bool
		if key, asked = a.group(key); !asked {
			a.indexes[id] = -1
			return -1
		}
	}
	i, ok := a.groups[key]
	if !ok {
		i = len(a.Edges)
		a.groups[key] = i
		a.Edges = append(a.Edges, Edge{Key: key})
		a.last = append(a.last, -1)
	}
	a.indexes[id] = i + 1
	return i
}
