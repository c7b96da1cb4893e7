// Package bylabels finds what selects a pod by its labels, without looking at every
// selector: a cluster may have thousands of policies, and most of them ask for a label that
// the pod does not have.
package bylabels

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Index has values with a selector each. The zero Index is empty.
type Index[T any] struct {
	all []entry[T]
	by  map[label][]int // places in all, by a label that the selector requires
	any []int           // those that require no label with a certain value
}

type entry[T any] struct {
	selector labels.Selector
	value    T
}

type label struct{ name, value string }

// Add adds a value.
func (x *Index[T]) Add(s labels.Selector, value T) {
	requirements, selectable := s.Requirements()
	if !selectable {
		return // it selects nothing
	}
	at := len(x.all)
	x.all = append(x.all, entry[T]{s, value})
	best, found := label{}, false
	for i := range requirements {
		r := &requirements[i]
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
		default:
			continue
		}
		if len(r.ValuesUnsorted()) != 1 {
			continue
		}
		if l := (label{r.Key(), r.ValuesUnsorted()[0]}); !found || len(x.by[l]) < len(x.by[best]) {
			best, found = l, true
		}
	}
	if !found {
		x.any = append(x.any, at)
		return
	}
	if x.by == nil {
		x.by = map[label][]int{}
	}
	x.by[best] = append(x.by[best], at)
}

// All returns the values in the order in which they were added. A nil Index has none.
func (x *Index[T]) All() (out []T) {
	if x == nil {
		return nil
	}
	for i := range x.all {
		out = append(out, x.all[i].value)
	}
	return out
}

// Select returns the values whose selector selects a pod with these labels, in the order in
// which they were added. A nil Index has none.
func (x *Index[T]) Select(pod map[string]string) (out []T) {
	if x == nil {
		return nil
	}
	var places []int
	look := func(list []int) {
		for _, at := range list {
			if x.all[at].selector.Matches(labels.Set(pod)) {
				places = append(places, at)
			}
		}
	}
	look(x.any)
	for name, value := range pod {
		look(x.by[label{name, value}])
	}
	slices.Sort(places)
	for _, at := range places {
		out = append(out, x.all[at].value)
	}
	return out
}
