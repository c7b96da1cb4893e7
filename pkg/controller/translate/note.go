package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/depend"
)

// noting takes the objects in.
type noting struct{ *Translator }

// note stores an object and marks what is made of it.
func (tr *noting) note(c Change) {
	k := keyOf(c.Object)
	old := tr.known(k)
	now := c.Object
	if c.Gone {
		if old == nil || old.GetUID() != now.GetUID() {
			return // another object has this name by now
		}
		now = nil
		delete(tr.objects, k)
	} else if k.kind != kindPod {
		tr.objects[k] = now
	}
	n := name{k.namespace, k.name}
	switch c.Object.(type) {
	case *corev1.Namespace:
		u := tr.ns(k.name)
		u.object = as[*corev1.Namespace](now)
		tr.graph.Mark(&u.Node)
	case *corev1.Node:
		tr.noteNode(k.name, as[*corev1.Node](now))
	case *Pod:
		tr.notePod(n, as[*Pod](old), as[*Pod](now))
	case *corev1.Service:
		tr.noteService(n, as[*corev1.Service](now))
	case *discoveryv1.EndpointSlice:
		tr.noteSlice(as[*discoveryv1.EndpointSlice](old), as[*discoveryv1.EndpointSlice](now))
	case *networkingv1.NetworkPolicy:
		u := tr.ns(k.namespace)
		if delete(u.policies, k.name); now != nil {
			u.policies[k.name] = now.(*networkingv1.NetworkPolicy)
		}
		tr.graph.Mark(&u.Node)
	case *metav1.PartialObjectMetadata:
		tr.noteForeign(k.namespace, old, now)
	case *custom.PolicyObject:
		tr.notePolicy(k, as[*custom.PolicyObject](old), as[*custom.PolicyObject](now))
		if k.kind == kindLinkerdHTTPRoute {
			tr.noteRoute(k, old, now)
		}
	case *custom.HTTPFault, *custom.HTTPRouteGroup:
		tr.noteInput(k, now)
	case *custom.EgressNetwork:
		tr.noteInput(k, now)
		tr.noteEgress(k, as[*custom.EgressNetwork](now))
	case *gatewayv1.HTTPRoute, *gatewayv1.GRPCRoute, *gatewayv1.TLSRoute, *gatewayv1.TCPRoute:
		tr.noteRoute(k, old, now)
	case *gatewayx.XBackendTrafficPolicy:
		tr.noteTraffic(k, as[*gatewayx.XBackendTrafficPolicy](old), as[*gatewayx.XBackendTrafficPolicy](now))
	case *custom.TrafficSplit:
		tr.noteSplit(as[*custom.TrafficSplit](old), as[*custom.TrafficSplit](now))
	}
}

// as returns nil for nil.
func as[T metav1.Object](o metav1.Object) T {
	out, _ := o.(T)
	return out
}

func (tr *noting) noteNode(node string, now *corev1.Node) {
	z := tr.zoneOf(node)
	zone := ""
	old := tr.out.nodes[node]
	delete(tr.out.nodes, node)
	if now != nil {
		zone = now.Labels[corev1.LabelTopologyZone]
		if addrs := addrsOf(now); len(addrs) > 0 {
			tr.out.nodes[node] = addrs
		}
	}
	tr.out.moved = tr.out.moved || !slices.Equal(old, tr.out.nodes[node])
	if z.value != zone {
		z.value = zone
		tr.graph.Touch(&z.Node)
	}
}

func (tr *noting) notePod(n name, old, now *Pod) {
	tr.ns(n.namespace)
	tr.policiesOf(n.namespace)
	w := tr.workload(n)
	m := tr.pods(n.namespace)
	var before, after map[string]string
	if old != nil {
		before = old.Labels
	}
	delete(m.all, w)
	if now != nil {
		after = now.Labels
		m.all[w] = struct{}{}
	}
	w.object = now
	tr.relabel(w, before, after)
	tr.graph.Mark(&w.base.Node)
	tr.graph.Mark(&w.final.Node)
}

func (tr *noting) noteService(n name, now *corev1.Service) {
	s := tr.svc(n)
	in := tr.servicesIn(n.namespace)
	delete(in.all, s)
	if now != nil {
		in.all[s] = struct{}{}
	}
	s.object = now
	tr.graph.Touch(&in.changed)
	tr.graph.Mark(&s.shape.Node)
	tr.graph.Mark(&s.full.Node)
}

func (tr *noting) noteSlice(old, now *discoveryv1.EndpointSlice) {
	if old != nil {
		if of, ok := serviceOf(old); ok {
			s := tr.svc(of)
			delete(s.slices, old.Name)
			tr.graph.Mark(&s.full.Node)
		}
	}
	if now != nil {
		if of, ok := serviceOf(now); ok {
			s := tr.svc(of)
			s.sliceSet(now)
			tr.graph.Mark(&s.full.Node)
		}
	}
}

func (tr *noting) noteForeign(namespace string, old, now metav1.Object) {
	n := 0
	if old != nil {
		n--
	}
	if now != nil {
		n++
	}
	if n == 0 {
		return
	}
	if namespace == "" {
		tr.foreign += n
		tr.graph.Touch(&tr.wire)
		return
	}
	u := tr.ns(namespace)
	u.foreign += n
	tr.graph.Mark(&u.Node)
}

func (tr *noting) notePolicy(k objectKey, old, now *custom.PolicyObject) {
	p := tr.policiesOf(k.namespace)
	delete(p.own, k)
	delete(tr.authenticating, k)
	if now != nil {
		p.own[k] = now
		if authenticates(now) {
			tr.authenticating[k] = now
		}
	}
	for _, o := range []*custom.PolicyObject{old, now} {
		if o == nil {
			continue
		}
		if isIstio(o) {
			tr.graph.Touch(&p.istio)
		}
		if authenticates(o) {
			tr.graph.Touch(&tr.authentications)
		}
	}
	delete(tr.parsed, old)
	tr.graph.Mark(&p.Node)
}

func (tr *noting) noteInput(k objectKey, now metav1.Object) {
	in := tr.input(k)
	in.object = now
	tr.graph.Touch(&in.Node)
}

func (tr *noting) noteEgress(k objectKey, now *custom.EgressNetwork) {
	u := tr.egress[k]
	if u == nil {
		u = &egressUnit{tr: tr.Translator, name: name{k.namespace, k.name}}
		u.Node = depend.NewNode(levelEgress, u)
		tr.egress[k] = u
	}
	u.object = now
	tr.graph.Mark(&u.Node)
}

func (tr *noting) noteRoute(k objectKey, old, now metav1.Object) {
	u := tr.routes[k]
	if u == nil {
		u = &routeUnit{tr: tr.Translator}
		u.Node = depend.NewNode(levelRoute, u)
		tr.routes[k] = u
	}
	u.object = now
	tr.graph.Mark(&u.Node)
	if hasServer(old) || hasServer(now) {
		p := tr.policiesOf(k.namespace)
		if delete(p.routes, k); hasServer(now) {
			p.routes[k] = now
		}
		tr.graph.Mark(&p.Node)
	}
}

// hasServer reports whether a route has a Server of Linkerd as parent.
func hasServer(o metav1.Object) bool {
	switch r := o.(type) {
	case *gatewayv1.HTTPRoute:
		return slices.ContainsFunc(r.Spec.ParentRefs, isServerParent)
	case *gatewayv1.GRPCRoute:
		return slices.ContainsFunc(r.Spec.ParentRefs, isServerParent)
	}
	return false
}

func (tr *noting) noteTraffic(k objectKey, old, now *gatewayx.XBackendTrafficPolicy) {
	u := tr.traffic[k]
	if u == nil {
		u = &trafficPolicy{tr: tr.Translator}
		u.Node = depend.NewNode(levelTrafficPolicy, u)
		tr.traffic[k] = u
	}
	u.object = now
	tr.graph.Mark(&u.Node)
	if old != nil {
		for at := range targetsOf(old) {
			s := tr.svc(at)
			delete(s.budget.of, k.name)
			tr.graph.Mark(&s.budget.Node)
		}
	}
	if now != nil {
		for at := range targetsOf(now) {
			s := tr.svc(at)
			if s.budget.of == nil {
				s.budget.of = map[string]*trafficPolicy{}
			}
			s.budget.of[k.name] = u
			tr.graph.Mark(&s.budget.Node)
		}
	}
}

func (tr *noting) noteSplit(old, now *custom.TrafficSplit) {
	if old != nil {
		s := tr.svc(rootOf(old))
		delete(s.splits.of, old.Name)
		tr.graph.Mark(&s.splits.Node)
	}
	if now != nil {
		s := tr.svc(rootOf(now))
		if s.splits.of == nil {
			s.splits.of = map[string]*custom.TrafficSplit{}
		}
		s.splits.of[now.Name] = now
		tr.graph.Mark(&s.splits.Node)
	}
}
