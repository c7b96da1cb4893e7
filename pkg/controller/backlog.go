package controller

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/controller/translate"
)

// atOnce is up to how many changes are taken in as one.
const atOnce = 1000

// backlog has changes that wait for those before them: after an absence of the API server, or
// a rollout of thousands of pods, endpoints that are gone do not wait for those that come.
type backlog struct {
	order []member
	last  map[member]translate.Change // the newest of each object
}

// member is an object of a kind that has many.
type member struct {
	kind            byte
	namespace, name string
	uid             types.UID
}

// take returns what to take in now of a batch and of what waits. known returns an object as it
// was taken in last, nil if it was not.
func (b *backlog) take(batch translate.Batch, known func(metav1.Object) metav1.Object) translate.Batch {
	if len(b.order) == 0 && len(batch.Changes) <= atOnce {
		return batch
	}
	if b.last == nil {
		b.last = map[member]translate.Change{}
	}
	now := translate.Batch{ForeignUnknown: batch.ForeignUnknown}
	for _, c := range batch.Changes {
		m, many := memberOf(c.Object)
		if many {
			_, waits := b.last[m]
			if !removes(c, known) {
				if b.last[m] = c; !waits {
					b.order = append(b.order, m)
				}
				continue
			}
			delete(b.last, m)
		}
		// Policies and namespaces are few, and what waits must not be without them.
		now.Changes = append(now.Changes, c)
	}
	for len(b.order) > 0 && len(now.Changes) < atOnce {
		m := b.order[0]
		b.order = b.order[1:]
		if c, waits := b.last[m]; waits {
			delete(b.last, m)
			now.Changes = append(now.Changes, c)
		}
	}
	if len(b.order) == 0 {
		b.order, b.last = nil, nil
	}
	return now
}

func (b *backlog) empty() bool { return len(b.order) == 0 }

func memberOf(o metav1.Object) (m member, many bool) {
	switch o.(type) {
	case *translate.Pod:
		m.kind = 'p'
	case *corev1.Service:
		m.kind = 's'
	case *discoveryv1.EndpointSlice:
		m.kind = 'e'
	case *corev1.Node:
		m.kind = 'n'
	default:
		return m, false
	}
	m.namespace, m.name, m.uid = o.GetNamespace(), o.GetName(), o.GetUID()
	return m, true
}

// removes reports whether an endpoint is gone by a change, or should not be used any more.
func removes(c translate.Change, known func(metav1.Object) metav1.Object) bool {
	switch o := c.Object.(type) {
	case *translate.Pod:
		old, had := known(o).(*translate.Pod)
		return had && (c.Gone || old.UID != o.UID || isReady(old) && !isReady(o) || old.DeletionTimestamp == nil && o.DeletionTimestamp != nil)
	case *discoveryv1.EndpointSlice:
		old, had := known(o).(*discoveryv1.EndpointSlice)
		return had && (c.Gone || loses(old, o))
	}
	return false
}

func isReady(p *translate.Pod) bool {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// loses reports whether an endpoint of old is not in now, or not ready there.
func loses(old, now *discoveryv1.EndpointSlice) bool {
	ready := map[string]bool{}
	for i := range now.Endpoints {
		e := &now.Endpoints[i]
		if e.Conditions.Ready == nil || *e.Conditions.Ready {
			for _, a := range e.Addresses {
				ready[a] = true
			}
		}
	}
	for i := range old.Endpoints {
		e := &old.Endpoints[i]
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, a := range e.Addresses {
			if !ready[a] {
				return true
			}
		}
	}
	return false
}
