package translate

import (
	"fmt"
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/controller/ownpolicy"
)

// judged is what the pods of a namespace were judged by. What is said of a pod depends on what
// is about it, and on nothing else here.
type judged struct {
	by      map[*custom.PolicyObject]about // those of Linkerd aside
	servers map[string]*linkerdServer      // of Linkerd, with what its other policies say of them, by name
}

// about says which pods a policy is about, and what else its verdict depends on.
type about struct {
	selectors []podSelector
	beside    string // of Services
}

func (a about) equal(b about) bool {
	return a.beside == b.beside && slices.EqualFunc(a.selectors, b.selectors, func(a, b podSelector) bool { return a.String() == b.String() })
}

// judgedBy returns what the pods of the namespace are judged by.
func (p *policies) judgedBy(o *Objects) judged {
	j := judged{by: make(map[*custom.PolicyObject]about, len(o.PolicyObjects)), servers: map[string]*linkerdServer{}}
	var istio *istioFront
	for _, f := range p.fronts {
		switch f := f.(type) {
		case *linkerdFront:
			for _, s := range f.servers[p.namespace].All() {
				j.servers[s.name] = s
			}
		case *istioFront:
			istio = f
		}
	}
	for _, object := range o.PolicyObjects {
		switch read := p.tr.parsed[object].(type) {
		case *ownpolicy.Policy:
			j.by[object] = about{selectors: []podSelector{read.Pods}}
		case *ownpolicy.RateLimits:
			j.by[object] = about{selectors: []podSelector{read.Pods}}
		case *istiopolicy.Object:
			j.by[object] = istio.about(read, p.namespace, o.Services)
		default:
			if !isLinkerd(object) {
				j.by[object] = about{selectors: []podSelector{labels.Everything()}}
			}
		}
	}
	return j
}

// about returns the pods of a namespace that an object is about. Those of a Service are those
// that the Service selects.
func (f *istioFront) about(object *istiopolicy.Object, namespace string, services []*corev1.Service) (out about) {
	if object == nil {
		return out // of a kind that is not known
	}
	if name := object.Provider(); name != "" {
		p := f.providers[name]
		out.beside = p.problem
		if p.ExternalAuth != nil {
			out.beside += fmt.Sprint(p.Addrs)
		}
	}
	selector, ok := object.Selector()
	if ok {
		out.selectors = []podSelector{selector}
		return out
	}
	for _, s := range services {
		if s.Namespace == namespace && namespace == object.Namespace && hasPods(s) && slices.Contains(object.Services(), s.Name) {
			out.selectors = append(out.selectors, labels.SelectorFromSet(s.Spec.Selector))
		}
	}
	return out
}

// concerned returns selectors of all pods for which something else may be said than before.
func (j *judged) concerned(before *judged) (selectors []podSelector) {
	changed := func(from, to *judged) {
		for object, is := range from.by {
			if other, same := to.by[object]; !same || !is.equal(other) {
				selectors = append(selectors, is.selectors...)
			}
		}
		for name, s := range from.servers {
			if other := to.servers[name]; other == nil || !s.equal(other) {
				selectors = append(selectors, s.selector)
			}
		}
	}
	changed(before, j)
	changed(j, before)
	return selectors
}

// sameLimits reports whether the same policies set rate limits as before.
func (j *judged) sameLimits(before *judged) bool {
	for _, pair := range [][2]*judged{{j, before}, {before, j}} {
		for object := range pair[0].by {
			if _, same := pair[1].by[object]; !same && object.Kind == v1alpha1.RateLimitKind {
				return false
			}
		}
	}
	return true
}

// judgeAgain marks the pods of the namespace that one of the selectors selects.
func (p *policies) judgeAgain(selectors []podSelector) {
	if len(selectors) == 0 {
		return
	}
	for w := range p.tr.pods(p.namespace).selected(selectors) {
		p.tr.graph.Mark(&w.final.Node)
	}
}

// selected returns the pods that one of the selectors selects.
func (m *members) selected(selectors []podSelector) iter.Seq[*workload] {
	return func(yield func(*workload) bool) {
		for w := range m.all {
			if w.object != nil && slices.ContainsFunc(selectors, func(s podSelector) bool { return s.Matches(labels.Set(w.object.Labels)) }) && !yield(w) {
				return
			}
		}
	}
}
