package translate

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/depend"
)

// name names an object of a kind.
type name struct{ namespace, name string }

func (n name) compare(other name) int {
	return cmp.Or(cmp.Compare(n.namespace, other.namespace), cmp.Compare(n.name, other.name))
}

// Levels of values: each depends only on values of lower levels.
const (
	levelNamespace     = 1
	levelEgress        = 1
	levelBase          = 2 // what a pod says itself
	levelAddress       = 3
	levelPolicies      = 3
	levelLimits        = 4
	levelFinal         = 5 // workloads
	levelShape         = 6 // what a Service says itself
	levelClaimed       = 7
	levelBudget        = 7
	levelTrafficPolicy = 8
	levelService       = 8
	levelRoute         = 9
	levelSplits        = 10
	levelServiceRoutes = 11
)

// index finds the units by what others look for. What is looked for and not there is a unit
// without an object: those who looked are its users, and are computed when it comes.
type index struct {
	graph      depend.Graph
	namespaces map[string]*namespaceUnit
	zones      map[string]*zone // by node
	workloads  map[name]*workload
	members    map[string]*members // by namespace
	addresses  map[netip.Addr]*address
	policies   map[string]*policies // by namespace
	services   map[name]*service
	within     map[string]*within // Services by namespace
	vips       map[netip.Addr]*vip
	claims     map[netip.Addr]*claimed
	inputs     map[objectKey]*inputObject
}

func newIndex() index {
	return index{
		namespaces: map[string]*namespaceUnit{}, zones: map[string]*zone{}, workloads: map[name]*workload{}, members: map[string]*members{},
		addresses: map[netip.Addr]*address{}, policies: map[string]*policies{}, services: map[name]*service{}, within: map[string]*within{},
		vips: map[netip.Addr]*vip{}, claims: map[netip.Addr]*claimed{}, inputs: map[objectKey]*inputObject{},
	}
}

// zone is the zone of a node.
type zone struct {
	depend.Node
	value string
}

// inputObject is an object that others look at as it is.
type inputObject struct {
	depend.Node
	object metav1.Object // nil: there is none
}

// within are the Services of a namespace.
type within struct {
	changed depend.Node // an input: one of them has changed
	all     map[*service]struct{}
}

// members are the pods of a namespace.
type members struct {
	counted depend.Node // an input: what one of them says itself has changed
	all     map[*workload]struct{}
	labels  map[string]map[string]*labelled // by key and value, for keys that selectors had
}

// labelled are the pods with a label.
type labelled struct {
	changed depend.Node // an input: which pods there are
	pods    map[*workload]struct{}
}

// read returns the pods that have a workload.
func (m *members) read() iter.Seq[*pod] {
	return func(yield func(*pod) bool) {
		for w := range m.all {
			if w.read != nil && !yield(w.read) {
				return
			}
		}
	}
}

// with returns the pods with a label.
func (m *members) with(key, value string) *labelled {
	values := m.labels[key]
	if values == nil {
		values = map[string]*labelled{}
		m.labels[key] = values
		for w := range m.all {
			if v, has := w.object.Labels[key]; has {
				withValue(values, v).pods[w] = struct{}{}
			}
		}
	}
	return withValue(values, value)
}

func withValue(values map[string]*labelled, value string) *labelled {
	l := values[value]
	if l == nil {
		l = &labelled{pods: map[*workload]struct{}{}}
		values[value] = l
	}
	return l
}

// relabel notes that a pod has other labels. nil: it is not there.
func (x *index) relabel(w *workload, old, now map[string]string) {
	m := x.pods(w.namespace)
	for key, values := range m.labels {
		before, had := old[key]
		after, has := now[key]
		if had == has && before == after {
			continue
		}
		if had {
			l := withValue(values, before)
			delete(l.pods, w)
			x.graph.Touch(&l.changed)
			if len(l.pods) == 0 && !l.changed.Used() {
				delete(values, before)
			}
		}
		if has {
			l := withValue(values, after)
			l.pods[w] = struct{}{}
			x.graph.Touch(&l.changed)
		}
	}
}

// selected returns the pods of a namespace that a Service's selector selects, by name.
func (x *index) selected(namespace string, sel labels.Selector) (out []*pod) {
	requirements, ok := sel.Requirements()
	if !ok {
		return nil
	}
	m := x.pods(namespace)
	var best *labelled
	for i := range requirements {
		r := &requirements[i]
		if values := r.ValuesUnsorted(); r.Operator() == selection.Equals && len(values) == 1 {
			if l := m.with(r.Key(), values[0]); best == nil || len(l.pods) < len(best.pods) {
				best = l
			}
		}
	}
	if best == nil {
		return nil // a Service's selector has labels
	}
	x.graph.Read(&best.changed)
	for w := range best.pods {
		x.graph.Read(&w.base.Node) // its other labels
		if !sel.Matches(labels.Set(w.object.Labels)) {
			continue
		}
		if p := x.made(w); p != nil {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *pod) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// made returns the workload of a pod, nil if there is none.
func (x *index) made(w *workload) *pod {
	x.graph.Read(&w.final.Node)
	return w.made
}

// namespace returns what pods inherit from a namespace, which may be unknown.
func (tr *Translator) namespace(name string) *namespace {
	u := tr.ns(name)
	tr.graph.Read(&u.Node)
	return &u.value
}

func (tr *Translator) ns(name string) *namespaceUnit {
	u := tr.namespaces[name]
	if u == nil {
		u = &namespaceUnit{tr: tr, name: name, policies: map[string]*networkingv1.NetworkPolicy{}}
		u.Node = depend.NewNode(levelNamespace, u)
		tr.namespaces[name] = u
		tr.graph.Mark(&u.Node)
	}
	return u
}

// zone returns the zone of a node.
func (x *index) zone(node string) string {
	z := x.zoneOf(node)
	x.graph.Read(&z.Node)
	return z.value
}

func (x *index) zoneOf(node string) *zone {
	z := x.zones[node]
	if z == nil {
		z = &zone{}
		x.zones[node] = z
	}
	return z
}

func (tr *Translator) workload(n name) *workload {
	w := tr.workloads[n]
	if w == nil {
		w = &workload{name: n, tr: tr}
		w.base = baseUnit{depend.Node{}, w}
		w.base.Node = depend.NewNode(levelBase, &w.base)
		w.final = finalUnit{depend.Node{}, w}
		w.final.Node = depend.NewNode(levelFinal, &w.final)
		tr.workloads[n] = w
	}
	return w
}

func (x *index) pods(namespace string) *members {
	m := x.members[namespace]
	if m == nil {
		m = &members{all: map[*workload]struct{}{}, labels: map[string]map[string]*labelled{}}
		x.members[namespace] = m
	}
	return m
}

func (x *index) address(a netip.Addr) *address {
	at := x.addresses[a]
	if at == nil {
		at = &address{}
		at.Node = depend.NewNode(levelAddress, at)
		x.addresses[a] = at
	}
	return at
}

// ownerOf returns the pod that has an address, nil for none.
func (x *index) ownerOf(a netip.Addr) *workload {
	at := x.address(a)
	x.graph.Read(&at.Node)
	return at.owner
}

func (tr *Translator) policiesOf(namespace string) *policies {
	p := tr.policies[namespace]
	if p == nil {
		p = &policies{tr: tr, namespace: namespace, own: map[objectKey]*custom.PolicyObject{}, routes: map[objectKey]metav1.Object{}, t: tr.translation()}
		p.Node = depend.NewNode(levelPolicies, p)
		p.limits.p = p
		p.limits.Node = depend.NewNode(levelLimits, &p.limits)
		tr.policies[namespace] = p
		tr.graph.Mark(&p.Node)
		tr.graph.Mark(&p.limits.Node)
	}
	return p
}

func (tr *Translator) svc(n name) *service {
	s := tr.services[n]
	if s == nil {
		s = &service{name: n, tr: tr}
		s.shape = shapeUnit{s: s}
		s.shape.Node = depend.NewNode(levelShape, &s.shape)
		s.budget = budgetUnit{s: s}
		s.budget.Node = depend.NewNode(levelBudget, &s.budget)
		s.full = fullUnit{s: s}
		s.full.Node = depend.NewNode(levelService, &s.full)
		s.splits = splitsUnit{s: s}
		s.splits.Node = depend.NewNode(levelSplits, &s.splits)
		s.routes = serviceRoutesUnit{s: s}
		s.routes.Node = depend.NewNode(levelServiceRoutes, &s.routes)
		tr.services[n] = s
	}
	return s
}

// shape returns what a Service says itself, nil if there is none.
func (tr *Translator) shape(n name) *shape {
	s := tr.svc(n)
	tr.graph.Read(&s.shape.Node)
	return s.shape.value
}

func (x *index) servicesIn(namespace string) *within {
	in := x.within[namespace]
	if in == nil {
		in = &within{all: map[*service]struct{}{}}
		x.within[namespace] = in
	}
	return in
}

func (x *index) vip(a netip.Addr) *vip {
	v := x.vips[a]
	if v == nil {
		v = &vip{}
		x.vips[a] = v
	}
	return v
}

func (tr *Translator) claimed(a netip.Addr) *claimed {
	c := tr.claims[a]
	if c == nil {
		c = &claimed{tr: tr, addr: a}
		c.Node = depend.NewNode(levelClaimed, c)
		tr.claims[a] = c
	}
	return c
}

func (x *index) input(k objectKey) *inputObject {
	in := x.inputs[k]
	if in == nil {
		in = &inputObject{}
		x.inputs[k] = in
	}
	return in
}

// input returns an object, the zero T if there is none.
func input[T metav1.Object](tr *Translator, k objectKey) T {
	in := tr.input(k)
	tr.graph.Read(&in.Node)
	out, _ := in.object.(T)
	return out
}

// sliceSet adds a slice to those of its Service.
func (s *service) sliceSet(slice *discoveryv1.EndpointSlice) {
	if s.slices == nil {
		s.slices = map[string]*discoveryv1.EndpointSlice{}
	}
	s.slices[slice.Name] = slice
}
