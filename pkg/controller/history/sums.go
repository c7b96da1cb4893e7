package history

import (
	"maps"
	"slices"

	"github.com/underlane/underlane/pkg/figures"
)

// lengths are those of the sums, in minutes. Each is a multiple of the one before.
var lengths = [...]int64{15, 60}

// joinAtOnce bounds, for each length, the sums that are made at once, after a restart for
// instance: each takes as long as reading its steps.
var joinAtOnce = [len(lengths)]int{8, 2}

// sums has, for each of lengths, what happened in such a time as one step, ascending. A query
// with points of 15 minutes for a day reads a hundred blocks with them, not more than four
// hundred, whose bytes are not coded by frequency. They take about as much as half of the
// steps, and go first when there is no room: then such a query takes longer. The steps stay,
// for queries with shorter points.
type sums [len(lengths)][]*step

// all returns all of them.
func (s *sums) all() []*step { return slices.Concat(s[:]...) }

// drop drops those that some condition holds for.
func (s *sums) drop(gone func(*step) bool) {
	for i := range s {
		s[i] = slices.DeleteFunc(s[i], gone)
	}
}

// join makes the sums of steps that get no more blocks: those of quarters of an hour while a
// tenth of the budget is free, because they are the first to go. last is the newest minute.
func (s *timeline) join(last int64) {
	if len(s.steps) == 0 {
		return
	}
	first := s.steps[0].start
	for i, length := range lengths {
		joined := 0
		for start := first + (length-first%length)%length; start+length <= last-recent+1 && joined < joinAtOnce[i]; start += length {
			at, found := slices.BinarySearchFunc(s.sums[i], start, byStart)
			if found {
				continue
			}
			if i == 0 && s.size() > s.bytes/10*9 {
				break
			}
			s.sums[i] = slices.Insert(s.sums[i], at, s.sumUp(start, length))
			joined++
		}
	}
}

// sumUp adds up the steps of a time.
func (s *timeline) sumUp(start, length int64) *step {
	a := adder{from: s, open: map[int]int64{}, sums: map[string]map[int]*figures.Sums{}}
	from, _ := slices.BinarySearchFunc(s.steps, start, byStart)
	for _, st := range s.steps[from:] {
		if st.start >= start+length {
			break
		}
		a.step(st)
	}
	sum := &step{start: start, length: length}
	for _, owner := range slices.Sorted(maps.Keys(a.sums)) {
		sum.add(s, owner, a.sums[owner])
	}
	return sum
}

// dropSum drops the oldest sum of a quarter of an hour, and reports whether there was one.
func (s *timeline) dropSum() bool {
	if len(s.sums[0]) == 0 {
		return false
	}
	for _, b := range s.sums[0][0].blocks {
		s.packed -= cap(b.data)
	}
	s.sums[0] = slices.Delete(s.sums[0], 0, 1)
	return true
}

// part drops the sums that a step is in: its blocks have changed.
func (s *timeline) part(st *step) {
	s.sums.drop(func(sum *step) bool {
		if st.start < sum.start || st.start >= sum.start+sum.length {
			return false
		}
		for _, b := range sum.blocks {
			s.packed -= cap(b.data)
		}
		return true
	})
}

func byStart(st *step, minute int64) int { return int(st.start - minute) }

// sumOf returns the longest sum that a minute is in and that is in one point of the answer, or
// nil.
func (b *builder) sumOf(minute int64) *step {
	for i := len(lengths) - 1; i >= 0; i-- {
		length := lengths[i]
		start := minute - minute%length
		if start < b.first || start+length > b.end || (start-b.first)/b.step != (start+length-1-b.first)/b.step {
			continue
		}
		if at, found := slices.BinarySearchFunc(b.sums[i], start, func(st step, m int64) int { return byStart(&st, m) }); found {
			return &b.sums[i][at]
		}
	}
	return nil
}
