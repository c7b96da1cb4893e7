package kind

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/translate"
)

// sharing lets the objects of a store share what many of them have. Each object that is
// decoded has strings, maps and lists of its own, also where they are those of its siblings:
// of the pods of a ReplicaSet only name, UID, node and addresses differ.
type sharing struct {
	mu      sync.Mutex
	strings recent[string, *string]
	pods    recent[owner, *translate.Pod]
}

// owner is the controller of pods.
type owner struct{ namespace, kind, name string }

// Up to how many values each half of a recent has: strings of nodes, namespaces and accounts,
// and siblings, of which the API server lists those of one owner one after the other.
const (
	recentStrings = 8 << 10
	recentPods    = 1 << 10
)

// recent has the values that were used last: at least most of them, and fewer than twice as
// many.
type recent[K comparable, V any] struct {
	most        int
	now, before map[K]V
}

func newSharing() sharing {
	return sharing{strings: recent[string, *string]{most: recentStrings}, pods: recent[owner, *translate.Pod]{most: recentPods}}
}

func (r *recent[K, V]) get(k K) (v V, ok bool) {
	if v, ok = r.now[k]; !ok {
		if v, ok = r.before[k]; ok {
			r.put(k, v)
		}
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if r.now == nil || len(r.now) >= r.most {
		r.before, r.now = r.now, map[K]V{}
	}
	r.now[k] = v
}

// text returns a string that is equal to s.
func (s *sharing) text(of string) string {
	if of == "" {
		return ""
	}
	return *s.pointer(of)
}

func (s *sharing) pointer(of string) *string {
	p, ok := s.strings.get(of)
	if !ok {
		p = &of
		s.strings.put(of, p)
	}
	return p
}

// sharePod makes o share with old, the same pod before, or else with another pod of its
// owner. o is stripped. old may be nil.
func sharePod(s *sharing, o, old *translate.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.Namespace, o.Spec.NodeName = s.text(o.Namespace), s.text(o.Spec.NodeName)
	o.Spec.ServiceAccountName = s.text(o.Spec.ServiceAccountName)
	if o.Spec.DeprecatedServiceAccount == o.Spec.ServiceAccountName {
		o.Spec.DeprecatedServiceAccount = o.Spec.ServiceAccountName
	}
	o.Status.Phase = corev1.PodPhase(s.text(string(o.Status.Phase)))
	o.Status.Conditions = sharedConditions(o.Status.Conditions)
	if old != nil {
		o.Name, o.UID, o.Status.PodIP = like(o.Name, old.Name), old.UID, like(o.Status.PodIP, old.Status.PodIP)
		shareTemplate(o, old)
	} else {
		pack(&o.Name, (*string)(&o.UID), &o.Status.PodIP)
	}
	ref := metav1.GetControllerOfNoCopy(o)
	if ref == nil {
		return
	}
	of := owner{o.Namespace, ref.Kind, ref.Name}
	if sibling, ok := s.pods.get(of); ok {
		shareTemplate(o, sibling)
	} else {
		s.pods.put(of, o)
	}
}

// like returns old, which is kept anyhow, if it is equal to s.
func like(s, old string) string {
	if s == old {
		return old
	}
	return s
}

// pack gives strings that only one object has one array.
func pack(all ...*string) {
	n := 0
	for _, s := range all {
		n += len(*s)
	}
	var b strings.Builder
	b.Grow(n)
	for _, s := range all {
		b.WriteString(*s)
	}
	whole := b.String()
	for _, s := range all {
		n := len(*s)
		*s, whole = whole[:n], whole[n:]
	}
}

// shareTemplate makes o share with like what is equal.
func shareTemplate(o, like *translate.Pod) {
	if maps.Equal(o.Labels, like.Labels) {
		o.Labels = like.Labels
	}
	if maps.Equal(o.Annotations, like.Annotations) {
		o.Annotations = like.Annotations
	}
	if sameOwners(o.OwnerReferences, like.OwnerReferences) {
		o.OwnerReferences = like.OwnerReferences
	}
	if sameContainers(o.Spec.Containers, like.Spec.Containers) {
		o.Spec.Containers = like.Spec.Containers
	}
	if sameContainers(o.Spec.InitContainers, like.Spec.InitContainers) {
		o.Spec.InitContainers = like.Spec.InitContainers
	}
}

// conditions are those that stripConditions leaves.
var conditions = [][]corev1.PodCondition{
	{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	{{Type: corev1.PodReady, Status: corev1.ConditionFalse}},
	{{Type: corev1.PodReady, Status: corev1.ConditionUnknown}},
}

func sharedConditions(all []corev1.PodCondition) []corev1.PodCondition {
	for _, known := range conditions {
		if slices.EqualFunc(all, known, func(a, b corev1.PodCondition) bool { return a.Type == b.Type && a.Status == b.Status }) {
			return known
		}
	}
	return all
}

// shareSlice makes o share with old, the same slice before, and strings with other slices. o is
// stripped. old may be nil.
func shareSlice(s *sharing, o, old *discoveryv1.EndpointSlice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old != nil {
		o.Name, o.UID = like(o.Name, old.Name), old.UID
		if maps.Equal(o.Labels, old.Labels) {
			o.Labels = old.Labels
		}
		if slices.EqualFunc(o.Ports, old.Ports, samePort) {
			o.Ports = old.Ports
		}
	}
	o.Namespace = s.text(o.Namespace)
	o.AddressType = discoveryv1.AddressType(s.text(string(o.AddressType)))
	own := make([]*string, 0, 16)
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		for j := range e.Addresses {
			own = append(own, &e.Addresses[j])
		}
		c := &e.Conditions
		c.Ready, c.Serving, c.Terminating = sharedBool(c.Ready), sharedBool(c.Serving), sharedBool(c.Terminating)
		if e.NodeName != nil {
			e.NodeName = s.pointer(*e.NodeName)
		}
		if ref := e.TargetRef; ref != nil {
			ref.Kind, ref.Namespace = s.text(ref.Kind), s.text(ref.Namespace)
			own = append(own, &ref.Name)
		}
	}
	pack(own...)
}

var yes, no = true, false

func sharedBool(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}
