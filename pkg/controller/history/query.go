package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/figures"
)

// MaxPoints bounds the points of all edges of an answer. Where there would be more, the
// steps of the answer are longer.
const MaxPoints = 150_000

// Query asks for what happened in a time. The Store extends it to whole steps.
type Query struct {
	Start, End time.Time
	Step       time.Duration // 0: the whole time is one point
	// Group says which keys count and under which key, as that of a figures.Query does. The
	// keys have no pods, nodes and routes.
	Group func(figures.Key) (figures.Key, bool)
}

// Answer is what the Store knows of a Query's time.
type Answer struct {
	figures.Result
	Covered time.Duration // the part of the time for which at least one agent was heard
	Gaps    []Gap         // what is not known, in the order of time
	Asked   int           // agents, at most at the same time
	Silent  []Silence     // nodes whose agents are missing in a part of the time, by name
	// Trimmed is the time before which steps were left out for want of room; zero: none.
	Trimmed         time.Time
	Folded, Dropped uint64 // requests and connections since the start, as those of Result
}

// Gap is a time of which something is not known.
type Gap struct {
	Start, End time.Time
	// Nodes are those whose agents are missing, sorted. None: the controller was away, or
	// heard no agent.
	Nodes []string
}

// Silence says for how long at most the agent of a node is missing.
type Silence struct {
	Node string
	For  time.Duration
}

// snapshot is what a query reads.
type snapshot struct {
	steps   []step
	sums    [len(lengths)][]step
	edges   []*edge
	reasons *reasons
}

// Query answers q.
func (s *Store) Query(q Query) *Answer {
	s.mu.Lock()
	snap := snapshot{edges: slices.Clone(s.edges), reasons: s.reasons}
	for _, st := range s.steps {
		if st.start+st.length <= s.complete {
			snap.steps = append(snap.steps, *st)
		}
	}
	for i, sums := range s.sums {
		for _, st := range sums {
			snap.sums[i] = append(snap.sums[i], *st)
		}
	}
	end, trimmed := s.complete, s.trimmed
	a := &Answer{Folded: s.folded, Dropped: s.dropped}
	s.mu.Unlock()
	if trimmed > 0 {
		a.Trimmed = at(trimmed)
	}
	if len(snap.steps) == 0 || minuteOf(q.End)-end > perCoarse {
		end = minuteOf(q.End) // the newest minutes are a gap, if they are not just being asked for
	}
	a.Since = at(end)
	if len(snap.steps) > 0 {
		a.Since = at(snap.steps[0].start)
	}
	b := builder{Answer: a, snapshot: snap, group: q.Group, index: make([]int, len(snap.edges)), groups: map[figures.Key]int{}}
	b.times(&q, end)
	b.choose()
	b.fill()
	return a
}

func at(minute int64) time.Time { return time.Unix(minute*60, 0).UTC() }

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// builder makes an Answer.
type builder struct {
	*Answer
	snapshot
	group      func(figures.Key) (figures.Key, bool)
	first, end int64 // minutes
	step       int64 // minutes of a point
	points     int
	index      []int // of the edges in Edges, plus 1; 0: not asked for
	asked      [numClasses]bool
	groups     map[figures.Key]int
	units      []unit
}

// times extends the time of q to whole steps as they are kept. end is the minute after the
// last one that is known.
func (b *builder) times(q *Query, end int64) {
	b.first, b.end = minuteOf(q.Start), min(minuteOf(q.End), end)
	if q.Step == 0 { // the minute of the last moment, too
		b.end = min(minuteOf(q.End.Add(Minute-time.Nanosecond)), end)
	}
	unit := int64(1)
	for _, st := range b.steps {
		if st.length > 1 && st.start < b.end && st.start+st.length > b.first {
			unit = perCoarse
			break
		}
	}
	if q.Step > 0 {
		b.step = max(1, int64(q.Step/Minute))
		b.step = (b.step + unit - 1) / unit * unit
		// Points begin and end at the same times in each answer, and the last one is whole.
		// Those of the sums of quarters of an hour begin with these.
		grid := min(b.step, perCoarse)
		if b.step%lengths[0] == 0 {
			grid = lengths[0]
		}
		window := max(b.step, (minuteOf(q.End)-b.first+b.step-1)/b.step*b.step)
		b.end -= b.end % grid
		b.first = b.end - window
	} else {
		b.first -= b.first % unit
		b.end = max(min((b.end+unit-1)/unit*unit, end), b.first)
		b.step = max(1, b.end-b.first)
	}
	b.measure()
}

func (b *builder) measure() {
	b.points = int((b.end - b.first + b.step - 1) / b.step)
	b.Start, b.End, b.Step = at(b.first), at(b.end), time.Duration(b.step)*Minute
}

// choose finds the edges that are asked for.
func (b *builder) choose() {
	for id, e := range b.snapshot.edges {
		if e == nil || e.last.Load() < b.first-perCoarse {
			continue
		}
		key, asked := b.group(e.key.key())
		if !asked {
			continue
		}
		i, ok := b.groups[key]
		if !ok {
			i = len(b.Edges)
			b.groups[key] = i
			b.Edges = append(b.Edges, figures.Edge{Key: key})
		}
		b.index[id] = i + 1
		b.asked[e.class], b.asked[anyClass] = true, true
	}
	for b.points > 1 && b.points*len(b.Edges) > MaxPoints {
		b.step *= 2
		b.measure()
	}
}

// fill adds the steps.
func (b *builder) fill() {
	silent := map[string]time.Duration{}
	next, added := b.first, b.first // the minute after the last one that was added
	for i := range b.steps {
		st := &b.steps[i]
		if st.start+st.length <= b.first || st.start >= b.end {
			continue
		}
		if st.start > next {
			b.gap(next, st.start, nil)
		}
		next = st.start + st.length
		b.Covered += time.Duration(st.covered) * Minute
		b.Asked = max(b.Asked, st.asked)
		missing := st.missing
		for _, node := range st.waiting {
			if j, found := slices.BinarySearch(missing, node); !found {
				missing = slices.Insert(slices.Clone(missing), j, node)
			}
		}
		for _, node := range missing {
			silent[node] += time.Duration(st.length) * Minute
		}
		if st.covered < st.length {
			b.gap(st.start, next, nil)
		} else if len(missing) > 0 {
			b.gap(st.start, next, missing)
		}
		switch sum := b.sumOf(st.start); {
		case st.start < added: // it is in a sum
		case sum != nil:
			b.unit(sum)
			added = sum.start + sum.length
		default:
			b.unit(st)
		}
	}
	if next < b.end {
		b.gap(next, b.end, nil)
	}
	for node, d := range silent {
		b.Silent = append(b.Silent, Silence{node, d})
	}
	slices.SortFunc(b.Silent, func(x, y Silence) int { return cmp.Compare(x.Node, y.Node) })
	b.add()
}

// gap marks what is not known, joined to the gap before if it is of the same nodes.
func (b *builder) gap(start, end int64, nodes []string) {
	start, end = max(start, b.first), min(end, b.end)
	if n := len(b.Gaps); n > 0 {
		if before := &b.Gaps[n-1]; before.End.Equal(at(start)) && slices.Equal(before.Nodes, nodes) {
			before.End = at(end)
			return
		}
	}
	b.Gaps = append(b.Gaps, Gap{at(start), at(end), nodes})
}
