package authz

import "slices"

// width is how many places of an index a client is usually looked for in, at most.
const width = 16

// first keeps the entry that comes first in the order of policies.
type first struct{ *entry }

func (b *first) offer(e *entry) {
	if b.entry == nil || e.order.compare(b.order) < 0 {
		b.entry = e
	}
}

// beats reports whether e cannot replace what is kept.
func (b *first) beats(e *entry) bool { return b.entry != nil && b.order.compare(e.order) <= 0 }

// request returns the first entry that matches, or nil. If wide, an entry can match
// by any of the path's readings.
func (t *table) request(f *facts, wide bool) *entry {
	if !t.filled {
		return nil
	}
	var buf [width]*byPath
	var best first
	for _, b := range t.requests.find(f, buf[:0]) {
		b.candidates(f, wide, func(list []entry) {
			for i := range list {
				if best.beats(&list[i]) {
					return
				}
				if list[i].judge(f) {
					best.offer(&list[i])
					return
				}
			}
		})
	}
	return best.entry
}

// candidates calls do for each list that can hold entries which the request
// matches.
func (b *byPath) candidates(f *facts, wide bool, do func([]entry)) {
	readings := f.path.of[:f.path.n]
	if !wide {
		readings = readings[:1] // all have to match, so that one is enough to find the entry
	}
	for _, path := range readings {
		if list := b.exact[path]; list != nil {
			do(*list)
		}
		for _, n := range b.lengths {
			if n > len(path) {
				break
			}
			if list := b.prefixes[path[:n]]; list != nil {
				do(*list)
			}
		}
	}
	if list := b.routes[f.route]; list != nil {
		do(*list)
	}
	do(b.rest)
}

// connection returns the first entry that matches whatever the requests are, and the
// first one that needs a request to tell.
func (t *table) connection(f *facts) (sure, maybe *entry) {
	if !t.filled {
		return nil, nil
	}
	var buf [width]*[]entry
	var yes, perhaps first
	for _, list := range t.connections.find(f, buf[:0]) {
		for i := range *list {
			e := &(*list)[i]
			to := &yes
			if e.request {
				to = &perhaps
			}
			if !to.beats(e) && e.fitsConnection(f) {
				to.offer(e)
			}
		}
	}
	return yes.entry, perhaps.entry
}

// all yields the place of every rule that matches, once and in order.
func (t *table) all(f *facts, yield func(Place) bool) {
	var found []*entry
	var buf [width]*byPath
	for _, b := range t.requests.find(f, buf[:0]) {
		b.candidates(f, true, func(list []entry) {
			for i := range list {
				if list[i].fits(f) {
					found = append(found, &list[i])
				}
			}
		})
	}
	slices.SortStableFunc(found, func(a, b *entry) int { return a.order.compare(b.order) })
	for i, e := range found {
		if (i == 0 || found[i-1].order != e.order) && !yield(*e.place) {
			return
		}
	}
}
