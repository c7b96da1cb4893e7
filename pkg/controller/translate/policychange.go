package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/controller/ownpolicy"
)

// judged is what the pods of a namespace were judged by.
type judged struct {
	selectors map[*custom.PolicyObject]podSelector // nil for one that concerns more pods than its selector selects
	services  []*corev1.Service
	routes    []metav1.Object
}

// judgedBy returns what the pods are judged by.
func (t *translation) judgedBy(o *Objects) judged {
	j := judged{selectors: make(map[*custom.PolicyObject]podSelector, len(o.PolicyObjects)), services: o.Services}
	for _, object := range o.PolicyObjects {
		j.selectors[object] = t.selectorOf(object)
	}
	for _, r := range o.HTTPRoutes {
		j.routes = append(j.routes, r)
	}
	for _, r := range o.GRPCRoutes {
		j.routes = append(j.routes, r)
	}
	return j
}

// selectorOf returns which pods a policy is about, nil if that depends on more than their
// labels, or if pods that it does not select may depend on it.
func (t *translation) selectorOf(object *custom.PolicyObject) podSelector {
	switch read := t.from.parsed[object].(type) {
	case *ownpolicy.Policy:
		return read.Pods
	case *istiopolicy.Object:
		if selector, ok := read.Selector(); ok && read.Provider() == "" {
			return selector
		}
	}
	return nil
}

// concerned returns selectors of all pods for which something else may be judged than before;
// all says that it may be any pod.
func (j *judged) concerned(before *judged) (selectors []podSelector, all bool) {
	changed := func(from, to map[*custom.PolicyObject]podSelector) {
		for object, selector := range from {
			if _, same := to[object]; same {
				continue
			}
			all = all || selector == nil
			selectors = append(selectors, selector)
		}
	}
	changed(before.selectors, j.selectors)
	changed(j.selectors, before.selectors)
	if !slices.Equal(before.routes, j.routes) {
		return nil, true
	}
	// Services are targets, or have the addresses of authorizers.
	if !slices.Equal(before.services, j.services) && (looksAtServices(before.selectors) || looksAtServices(j.selectors)) {
		return nil, true
	}
	return selectors, all
}

func looksAtServices(policies map[*custom.PolicyObject]podSelector) bool {
	for object, selector := range policies {
		if isIstio(object) && selector == nil {
			return true
		}
	}
	return false
}

// sameLimits reports whether the same policies set rate limits as before.
func (j *judged) sameLimits(before *judged) bool {
	for _, pair := range [][2]*judged{{j, before}, {before, j}} {
		for object := range pair[0].selectors {
			if _, same := pair[1].selectors[object]; !same && object.Kind == v1alpha1.RateLimitKind {
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
	for w := range p.tr.pods(p.namespace).all {
		if w.object != nil && slices.ContainsFunc(selectors, func(s podSelector) bool { return s.Matches(labels.Set(w.object.Labels)) }) {
			p.tr.graph.Mark(&w.final.Node)
		}
	}
}
