package history

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
)

// fill adds minutes of traffic, with a gap.
func fill(s *Store, edges [][]figures.Edge, from, to int64) {
	for i := from; i < to; i++ {
		if i/7 != 30 {
			s.minute(minuteOf(epoch)+i, edges[i%int64(len(edges))]...)
		}
	}
}

// TestHours: an answer from sums of hours is the same as one from their steps, and what is
// open, missing or covered too.
func TestHours(t *testing.T) {
	s := NewStore(0)
	edges := traffic(4, 20)
	fill(s, edges, 0, 7*60)
	if n := len(s.hours); n != 6 {
		t.Fatalf("%d sums of hours, want 6 of 7: the last one may still get blocks", n)
	}
	without := NewStore(0)
	fill(without, edges, 0, 7*60)
	without.hours = nil
	for _, tc := range []struct{ after, window, step time.Duration }{
		{0, 7 * time.Hour, 0},
		{0, 7 * time.Hour, time.Hour},
		{0, 6 * time.Hour, 2 * time.Hour},
		{0, 7 * time.Hour, 90 * time.Minute},
		{0, 7 * time.Hour, 15 * time.Minute},
		{25 * time.Minute, 5 * time.Hour, 0},
		{25 * time.Minute, 5 * time.Hour, time.Hour},
		{time.Hour, time.Hour, 0},
		{61 * time.Minute, time.Hour, 0},
	} {
		start := epoch.Add(tc.after)
		q := Query{Start: start, End: start.Add(tc.window), Step: tc.step, Group: everything}
		want, got := without.Query(q), s.Query(q)
		if diff := cmp.Diff(want, got, buckets, near()); diff != "" {
			t.Errorf("%+v (-steps +hours):\n%s", tc, diff)
		}
	}
	// Sums go with their steps, and are counted.
	counted := s.packed
	if s.count(); s.packed != counted {
		t.Errorf("%d bytes are counted, there are %d", counted, s.packed)
	}
	fill(s, edges, 7*60, 27*60)
	if first := s.hours[0].start; first < s.steps[0].start || len(s.hours) > 24 {
		t.Errorf("%d sums of hours from %d on, want those since %d", len(s.hours), first, s.steps[0].start)
	}
	s.begin(minuteOf(epoch)+20*60, nil) // the clock was set back
	if last := s.hours[len(s.hours)-1]; last.start+last.length > minuteOf(epoch)+20*60 {
		t.Errorf("the last sum ends at %d, want none in the future", last.start+last.length)
	}
}

// near compares times that were rounded in a different order.
func near() cmp.Option {
	return cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() <= max(a, b)/80 })
}

// TestDay bounds the processor time of a question for 24 hours of 1,000 pairs. It asks a
// store of fewer pairs, because filling takes longer than asking: the time is proportional.
func TestDay(t *testing.T) {
	const pairs, times = 50, 1000 / 50
	s := NewStore(0)
	edges := traffic(pairs, 100)
	fill(s, edges, 0, keep+hour-1)
	end := at(minuteOf(epoch) + keep + hour - 1)
	group := (&figures.Selection{By: figures.ByWorkload, Side: mesh.Outbound}).Group
	for step, limit := range dayLimits {
		limit *= slowdown
		best := time.Hour
		for range 5 {
			before := processorTime(t)
			a := s.Query(Query{Start: end.Add(-Keep), End: end, Step: step, Group: group})
			best = min(best, (processorTime(t)-before)*times)
			if len(a.Edges) != pairs {
				t.Fatalf("%d edges, want %d", len(a.Edges), pairs)
			}
		}
		t.Logf("step %v: %v for 1,000 pairs", step, best)
		if best > limit {
			t.Errorf("step %v: %v for 1,000 pairs, want at most %v", step, best, limit)
		}
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var dayLimits = map[time.Duration]time.Duration{0: 300 * time.Millisecond, 15 * time.Minute: time.Second}
