package history

import (
	"maps"
	"slices"

	"github.com/underlane/underlane/pkg/figures"
)

// hour is the length of the sums of hours, in minutes.
const hour = 60

// joinAtOnce bounds the hours that are summed up at once, after a restart for instance: each
// takes as long as reading its steps.
const joinAtOnce = 2

// join sums up whole hours whose steps get no more blocks, so that a query for a day reads
// about a hundred blocks instead of more than four hundred. It costs a twentieth of the
// memory. The steps stay, for queries with shorter points. last is the newest minute.
func (s *Store) join(last int64) {
	if len(s.steps) == 0 {
		return
	}
	first := s.steps[0].start
	joined := 0
	for start := first + (hour-first%hour)%hour; start+hour <= last-recent+1 && joined < joinAtOnce; start += hour {
		i, found := slices.BinarySearchFunc(s.hours, start, byStart)
		if found {
			continue
		}
		a := adder{store: s, open: map[int]int64{}, sums: map[string]map[int]*figures.Sums{}}
		from, _ := slices.BinarySearchFunc(s.steps, start, byStart)
		for _, st := range s.steps[from:] {
			if st.start >= start+hour {
				break
			}
			a.step(st)
		}
		sum := &step{start: start, length: hour}
		for _, owner := range slices.Sorted(maps.Keys(a.sums)) {
			sum.add(s, owner, a.sums[owner])
		}
		s.hours = slices.Insert(s.hours, i, sum)
		joined++
	}
}

// part drops the sum of the hour that a step is in: its blocks have changed.
func (s *Store) part(st *step) {
	s.hours = slices.DeleteFunc(s.hours, func(sum *step) bool {
		if sum.start != st.start-st.start%hour {
			return false
		}
		for _, b := range sum.blocks {
			s.packed -= cap(b.data)
		}
		return true
	})
}

func byStart(st *step, minute int64) int { return int(st.start - minute) }

// hourOf returns the sum of the hour of a minute, or nil if there is none, or if not all of
// that hour is in one point of the answer.
func (b *builder) hourOf(minute int64) *step {
	start := minute - minute%hour
	if start < b.first || start+hour > b.end || (start-b.first)/b.step != (start+hour-1-b.first)/b.step {
		return nil
	}
	i, found := slices.BinarySearchFunc(b.hours, start, func(st step, m int64) int { return byStart(&st, m) })
	if !found {
		return nil
	}
	return &b.hours[i]
}
