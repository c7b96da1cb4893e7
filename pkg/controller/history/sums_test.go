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

// TestSums: an answer from sums is the same as one from their steps, and what is
// open, missing or covered too.
func TestSums(t *testing.T) {
	s := NewStore(0)
	edges := traffic(4, 20)
	fill(s, edges, 0, 7*60)
	if quarters, hours := len(s.sums[0]), len(s.sums[1]); quarters != 27 || hours != 6 {
		t.Fatalf("%d sums of quarters of an hour and %d of hours, want 27 and 6: the last ones may still get blocks", quarters, hours)
	}
	without := NewStore(0)
	fill(without, edges, 0, 7*60)
	without.sums = sums{}
	for _, tc := range []struct{ after, window, step time.Duration }{
		{0, 7 * time.Hour, 0},
		{0, 7 * time.Hour, time.Hour},
		{0, 6 * time.Hour, 2 * time.Hour},
		{0, 7 * time.Hour, 90 * time.Minute},
		{0, 7 * time.Hour, 30 * time.Minute},
		{10 * time.Minute, 6 * time.Hour, 15 * time.Minute},
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
			t.Errorf("%+v (-steps +sums):\n%s", tc, diff)
		}
	}
	// Sums go with their steps, and are counted.
	counted := s.packed
	if s.count(); s.packed != counted {
		t.Errorf("%d bytes are counted, there are %d", counted, s.packed)
	}
	fill(s, edges, 7*60, 27*60)
	for i, most := range []int{96, 24} {
		if first := s.sums[i][0].start; first < s.steps[0].start || len(s.sums[i]) > most || len(s.sums[i]) < most-2 {
			t.Errorf("%d sums from %d on, want those of %d since %d", len(s.sums[i]), first, most, s.steps[0].start)
		}
	}
	s.begin(minuteOf(epoch)+20*60, nil) // the clock was set back
	for _, sum := range s.sums.all() {
		if sum.start+sum.length > minuteOf(epoch)+20*60 {
			t.Errorf("a sum ends at %d, want none in the future", sum.start+sum.length)
		}
	}
}

// near compares times that were rounded in a different order.
func near() cmp.Option {
	return cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() <= max(a, b)/80 })
}

// TestDay bounds the processor time of a question for 24 hours of 1,000 pairs. It asks a
// store of fewer pairs, because filling takes longer than asking: the time is proportional.
func TestDay(t *testing.T) {
	withoutRaceDetector(t)
	const pairs, times = 50, 1000 / 50
	s := NewStore(0)
	edges := traffic(pairs, 100)
	fill(s, edges, 0, keep+59)
	end := at(minuteOf(epoch) + keep + 59)
	group := (&figures.Selection{By: figures.ByWorkload, Side: mesh.Outbound}).Group
	for step, limit := range dayLimits {
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

var dayLimits = map[time.Duration]time.Duration{0: 150 * time.Millisecond, 15 * time.Minute: 200 * time.Millisecond}
