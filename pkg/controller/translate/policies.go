package translate

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/depend"
	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/controller/linkerdpolicy"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// policies are the authorization policies and rate limits that may select pods of a namespace.
type policies struct {
	depend.Node
	tr        *Translator
	namespace string
	own       map[objectKey]*custom.PolicyObject
	routes    map[objectKey]metav1.Object // HTTPRoutes and GRPCRoutes that have a Server as parent
	istio     depend.Node                 // an input: the policies of Istio in own

	t      *translation // in which pods are judged
	fronts []front      // nil: there are no policies
	by     judged
	limits limitsUnit
}

// limitsUnit counts the nodes that share the limits of a namespace.
type limitsUnit struct {
	depend.Node
	p  *policies
	of rateLimits
}

// Compute reads the policies, and marks the pods that what has changed selects: it never says
// that it has changed. It depends on the policies of the namespace, and of these:
//
//   - of Istio: those of its root namespace, the Services of the namespace, which may be
//     targets, and those of external authorizers;
//   - of Linkerd: the authentications of all namespaces, and the routes of the namespace that
//     have a Server as parent.
func (p *policies) Compute() bool {
	before, limits := p.by, p.limits.of
	p.t, p.fronts, p.limits.of = p.tr.translation(), nil, nil
	o := &Objects{PolicyObjects: slices.Collect(maps.Values(p.own))}
	if root := p.tr.rootNamespace(); root != p.namespace {
		in := p.tr.policiesOf(root)
		p.tr.graph.Read(&in.istio)
		for _, object := range in.own {
			if isIstio(object) {
				o.PolicyObjects = append(o.PolicyObjects, object)
			}
		}
	}
	if slices.ContainsFunc(o.PolicyObjects, isIstio) {
		o.Services = p.tr.servicesFor(p.namespace)
	}
	if slices.ContainsFunc(o.PolicyObjects, isLinkerd) {
		p.tr.graph.Read(&p.tr.authentications)
		for _, object := range p.tr.authenticating {
			if object.Namespace != p.namespace {
				o.PolicyObjects = append(o.PolicyObjects, object)
			}
		}
	}
	for _, r := range p.routes {
		switch r := r.(type) {
		case *gatewayv1.HTTPRoute:
			o.HTTPRoutes = append(o.HTTPRoutes, r)
		case *gatewayv1.GRPCRoute:
			o.GRPCRoutes = append(o.GRPCRoutes, r)
		}
	}
	slices.SortFunc(o.HTTPRoutes, func(a, b *gatewayv1.HTTPRoute) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(o.GRPCRoutes, func(a, b *gatewayv1.GRPCRoute) int { return cmp.Compare(a.Name, b.Name) })
	if len(o.PolicyObjects)+len(p.routes) > 0 { // a route's Server may not exist: its status says so
		slices.SortFunc(o.PolicyObjects, comparePolicies)
		p.fronts = make([]front, len(fronts))
		for i, newFront := range fronts {
			p.fronts[i] = newFront(p.t, o)
		}
		p.limits.of = p.t.rateLimits(o)
	}
	// Of the objects of other namespaces their own speak.
	elsewhere := func(namespace string) bool { return namespace != p.namespace }
	p.t.Problems = slices.DeleteFunc(p.t.Problems, func(x Problem) bool { return elsewhere(x.Namespace) })
	p.t.RouteStatuses = slices.DeleteFunc(p.t.RouteStatuses, func(x RouteStatus) bool { return elsewhere(x.Namespace) })
	p.tr.out.say(&p.Node, &p.t.Result)
	p.by = p.judgedBy(o)
	if p.by.sameLimits(&before) {
		p.limits.of = limits // with the nodes that were counted
	} else {
		p.tr.graph.Mark(&p.limits.Node)
	}
	p.t.Result = Result{}
	p.judgeAgain(p.by.concerned(&before))
	return false
}

func isIstio(o *custom.PolicyObject) bool { return o.GroupVersionKind().Group == istiopolicy.Group }

func isLinkerd(o *custom.PolicyObject) bool { return o.GroupVersionKind().Group == linkerdpolicy.Group }

// authenticates reports whether policies of other namespaces may refer to o.
func authenticates(o *custom.PolicyObject) bool {
	return isLinkerd(o) && (o.Kind == "MeshTLSAuthentication" || o.Kind == "NetworkAuthentication")
}

// Compute counts, and marks the pods whose limits are others by it. It depends on the limits,
// and where there are some on all pods of the namespace.
func (u *limitsUnit) Compute() bool {
	if len(u.of) == 0 {
		return false
	}
	pods := u.p.tr.pods(u.p.namespace)
	u.p.tr.graph.Read(&pods.counted)
	u.p.judgeAgain(u.of.count(u.p.namespace, pods.read()))
	return false
}

// judge says which policies apply to a pod of the namespace, nil for none. The pod is no user of
// the policies, which mark it if they say something else of it: thousands of pods would be.
func (p *policies) judge(of *pod, said *Result) *authz.Spec {
	spec := p.t.authorize(of, p.fronts, p.limits.of)
	said.Problems = append(said.Problems, p.t.Problems...)
	p.t.Result = Result{}
	return spec
}

// servicesFor returns the Services of a namespace, and those of external authorizers.
func (tr *Translator) servicesFor(namespace string) (out []*corev1.Service) {
	in := tr.servicesIn(namespace)
	tr.graph.Read(&in.changed)
	for s := range in.all {
		if s.object != nil {
			out = append(out, s.object)
		}
	}
	for i := range tr.config.Providers {
		at := tr.config.Providers[i].Service
		elsewhere := tr.servicesIn(at.Namespace)
		tr.graph.Read(&elsewhere.changed)
		if s := tr.svc(name{at.Namespace, at.Name}); s.object != nil && !slices.Contains(out, s.object) {
			out = append(out, s.object)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Service) int { return name{a.Namespace, a.Name}.compare(name{b.Namespace, b.Name}) })
	return out
}
