package server

import (
	"cmp"
	"slices"
)

// held is a resource that a stream has: the number of its name, and its version.
type held struct {
	id      nameID
	version version
}

// holding are the resources that a stream has, ascending. It is a list and not a map, because
// there are thousands of them, and they seldom change.
type holding []held

func byID(h held, id nameID) int { return cmp.Compare(h.id, id) }

// index returns where a resource is, false if it is not there.
func (h holding) index(id nameID) (int, bool) { return slices.BinarySearchFunc(h, id, byID) }

// few is up to how many resources are added or removed one by one.
const few = 4

// add adds resources that are not there.
func (h *holding) add(some []held) {
	if len(some) <= few {
		for _, r := range some {
			at, _ := h.index(r.id)
			*h = slices.Insert(*h, at, r)
		}
		return
	}
	// Exactly as long as it has to be, and some more for single ones.
	out := make(holding, 0, (len(*h)+len(some))*33/32)
	out = append(append(out, *h...), some...)
	slices.SortFunc(out, func(a, b held) int { return cmp.Compare(a.id, b.id) })
	*h = out
}

// remove removes resources.
func (h *holding) remove(some []nameID) {
	if len(some) <= few {
		for _, id := range some {
			if at, has := h.index(id); has {
				*h = slices.Delete(*h, at, at+1)
			}
		}
		return
	}
	some = slices.Sorted(slices.Values(some))
	left := slices.DeleteFunc(*h, func(r held) bool {
		_, gone := slices.BinarySearch(some, r.id)
		return gone
	})
	if *h = left; cap(left) > 2*len(left) {
		*h = slices.Clone(left)
	}
}
