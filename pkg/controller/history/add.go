package history

import (
	"runtime"
	"slices"
	"sync"

	"github.com/underlane/underlane/pkg/figures"
)

// maxWorkers bounds the processors that make one answer.
const maxWorkers = 4

// unit is a step, or the sum of an hour, that is to be added to a point.
type unit struct {
	*step
	point int
}

func (b *builder) unit(st *step) {
	b.units = append(b.units, unit{st, int((max(st.start, b.first) - b.first) / b.step)})
}

// add adds all units. Workers have different points, so that they share nothing.
func (b *builder) add() {
	for i := range b.Edges {
		b.Edges[i].Points = make([]*figures.Sums, b.points)
	}
	total := 0
	for _, u := range b.units {
		total += b.size(&u)
	}
	var workers sync.WaitGroup
	each := total/min(runtime.GOMAXPROCS(0), maxWorkers) + 1
	from, size := 0, 0
	for i, u := range b.units {
		size += b.size(&u)
		if i+1 == len(b.units) || size >= each && b.units[i+1].point != u.point {
			part := b.units[from : i+1]
			from, size = i+1, 0
			workers.Go(func() { b.addPart(part) })
		}
	}
	workers.Wait()
	b.Edges = slices.DeleteFunc(b.Edges, func(e figures.Edge) bool {
		return !slices.ContainsFunc(e.Points, func(s *figures.Sums) bool { return s != nil })
	})
}

// size returns the bytes of the blocks of u that are read.
func (b *builder) size(u *unit) (n int) {
	for _, bl := range u.blocks {
		if b.asked[bl.class] {
			n += len(bl.data)
		}
	}
	return n
}

// addPart adds units that follow each other.
func (b *builder) addPart(units []unit) {
	var in unpacker
	last := make([]int64, len(b.Edges)) // the step that was added last
	for _, u := range units {
		for _, bl := range u.blocks {
			if !b.asked[bl.class] {
				continue
			}
			// A block that is broken, which no Store writes, is left out from there.
			_ = in.each(b.reasons, &bl, func(id int) *figures.Sums {
				if id >= len(b.index) || b.index[id] == 0 {
					return nil
				}
				point := &b.Edges[b.index[id]-1].Points[u.point]
				if *point == nil {
					*point = in.newSums()
				}
				return *point
			}, func(id int, open uint64) {
				i := b.index[id] - 1
				sums := b.Edges[i].Points[u.point]
				if last[i] != u.start { // only what is open at the end of a point counts
					last[i], sums.Open = u.start, 0
				}
				sums.Open += open
			})
		}
	}
}
