package translate_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

// dice draws from bytes, which a fuzzer may choose.
type dice struct{ data []byte }

func (d *dice) n(n int) int {
	if len(d.data) == 0 {
		return 0
	}
	b := int(d.data[0])
	d.data = d.data[1:]
	return b % n
}

func (d *dice) one(of ...string) string { return of[d.n(len(of))] }

// universe is a small cluster in which everything meets: few names, addresses and labels.
type universe struct {
	dice
	objects map[string]metav1.Object
	unknown bool
}

func (u *universe) namespace() string { return u.one("a", "b", "istio-system") }

func (u *universe) labels() map[string]string {
	out := map[string]string{}
	if app := u.one("", "x", "y", "z"); app != "" {
		out["app"] = app
	}
	if tier := u.one("", "1", "2"); tier != "" {
		out["tier"] = tier
	}
	return out
}

func (u *universe) addr() string {
	return u.one("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "10.9.0.1", "bad")
}

func (u *universe) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: u.namespace(), Name: name, CreationTimestamp: metav1.Time{Time: time.Unix(int64(u.n(3)), 0)}}
}

func (u *universe) annotations(all ...string) map[string]string {
	out := map[string]string{}
	for i := 0; i < len(all); i += 2 {
		if u.n(3) == 0 {
			out[all[i]] = all[i+1]
		}
	}
	return out
}

func (u *universe) pod() *translate.Pod {
	p := &translate.Pod{ObjectMeta: u.meta(u.one("p", "q", "r", "s"))}
	p.UID = types.UID(p.Namespace + p.Name + u.one("", "'"))
	p.Labels = u.labels()
	if l := u.one("", "", mesh.LabelEnabled, mesh.LabelDisabled, "odd"); l != "" {
		p.Labels[mesh.LabelMesh] = l
	}
	p.Annotations = u.annotations(mesh.AnnotationPolicy, u.one("strict", "deny", "all-authenticated", "odd"), mesh.AnnotationOpaquePorts, u.one("25", "x"))
	p.Spec.NodeName = u.one("n1", "n2", "")
	p.Spec.HostNetwork = u.n(8) == 0
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: int32(8080 + u.n(2))}}}}
	p.Status.PodIP = u.addr()
	if u.n(2) == 0 {
		p.Status.PodIPs = []corev1.PodIP{{IP: u.addr()}}
	}
	if u.n(8) == 0 {
		p.Status.Phase = corev1.PodSucceeded
	}
	if u.n(3) == 0 {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionStatus(u.one("True", "False"))}}
	}
	if u.n(3) == 0 {
		p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	}
	return p
}

func (u *universe) service() *corev1.Service {
	s := &corev1.Service{ObjectMeta: u.meta(u.one("v", "w", "x"))}
	s.Annotations = u.annotations(mesh.AnnotationRetryHTTP, u.one("5xx", "odd"), mesh.AnnotationTimeoutRequest, "1s")
	s.Spec = corev1.ServiceSpec{
		ClusterIP: u.one("10.9.0.1", "10.9.0.2", "10.0.0.1", "None", ""), Selector: u.labels(), Type: corev1.ServiceType(u.one("", "", "ExternalName", "NodePort")),
		Ports: []corev1.ServicePort{{Name: "http", Port: int32(80 + u.n(2)), TargetPort: intstr.FromString("http"), NodePort: 30000}},
	}
	if u.n(2) == 0 {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "more", Port: int32(81), Protocol: corev1.Protocol(u.one("", "UDP"))})
	}
	for range u.n(3) {
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, u.one("192.0.2.1", "192.0.2.2", "10.9.0.2", "10.0.0.2", "odd"))
	}
	return s
}

func (u *universe) slice() *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: u.meta(u.one("1", "2", "3")), AddressType: discoveryv1.AddressType(u.one("IPv4", "IPv4", "FQDN"))}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: u.one("v", "w", "x", "")}
	s.Ports = []discoveryv1.EndpointPort{{Name: ref(u.one("http", "more")), Port: ref(int32(8080))}}
	for range u.n(3) {
		e := discoveryv1.Endpoint{Addresses: []string{u.addr()}, Conditions: discoveryv1.EndpointConditions{Ready: ref(u.n(2) == 0), Terminating: ref(u.n(2) == 0)}}
		if u.n(2) == 0 {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: u.one("p", "q", "r"), Namespace: u.one("", "a")}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func (u *universe) parents() (out []gatewayv1.ParentReference) {
	for range 1 + u.n(2) {
		ref := gatewayv1.ParentReference{Name: gatewayv1.ObjectName(u.one("v", "w", "x")), Group: ref(gatewayv1.Group("")), Kind: ref(gatewayv1.Kind("Service"))}
		if u.n(2) == 0 {
			ref.Namespace = (*gatewayv1.Namespace)(&[]string{u.namespace()}[0])
		}
		if u.n(2) == 0 {
			ref.Port = &[]gatewayv1.PortNumber{80}[0]
		}
		switch u.n(4) {
		case 0:
			ref.Group, ref.Kind = &[]gatewayv1.Group{custom.LinkerdGroup}[0], &[]gatewayv1.Kind{translate.KindEgressNetwork}[0]
		case 1:
			ref.Group, ref.Kind = &[]gatewayv1.Group{custom.LinkerdGroup}[0], &[]gatewayv1.Kind{"Server"}[0]
		}
		out = append(out, ref)
	}
	return out
}

func (u *universe) backend() gatewayv1.BackendRef {
	out := gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(u.one("v", "w", "x")), Port: ref(gatewayv1.PortNumber(80))}}
	if u.n(2) == 0 {
		out.Namespace = (*gatewayv1.Namespace)(&[]string{u.namespace()}[0])
	}
	return out
}

func (u *universe) httpRoute() *gatewayv1.HTTPRoute {
	r := &gatewayv1.HTTPRoute{ObjectMeta: u.meta(u.one("r1", "r2"))}
	r.Spec.ParentRefs = u.parents()
	rule := gatewayv1.HTTPRouteRule{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: u.backend()}}}
	if u.n(3) == 0 {
		rule.Filters = []gatewayv1.HTTPRouteFilter{{
			Type:         gatewayv1.HTTPRouteFilterExtensionRef,
			ExtensionRef: &gatewayv1.LocalObjectReference{Group: custom.Group, Kind: gatewayv1.Kind(custom.HTTPFaults.Kind), Name: "f"},
		}}
	}
	if u.n(4) == 0 {
		rule.Filters = append(rule.Filters, gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterExternalAuth, ExternalAuth: &gatewayv1.HTTPExternalAuthFilter{
			ExternalAuthProtocol: gatewayv1.HTTPRouteExternalAuthHTTPProtocol, BackendRef: u.backend().BackendObjectReference,
		}})
	}
	r.Spec.Rules = []gatewayv1.HTTPRouteRule{rule}
	if u.n(8) == 0 {
		custom.SetUnknownFields(r, []string{u.one("spec.rules[0].cookies", "spec.other")})
	}
	return r
}

func (u *universe) policy(group, kind, name, spec string) *custom.PolicyObject {
	p := &custom.PolicyObject{ObjectMeta: u.meta(name), Spec: []byte(spec)}
	p.APIVersion, p.Kind = group+"/v1", kind
	return p
}

func (u *universe) selector() string {
	return u.one(`{}`, `{"matchLabels":{"app":"x"}}`, `{"matchLabels":{"app":"y"}}`, `{"matchLabels":{"tier":"1"}}`)
}

func (u *universe) policies() *custom.PolicyObject {
	name := u.one("1", "2")
	switch u.n(10) {
	case 8:
		p := u.policy("policy.linkerd.io", "HTTPRoute", u.one("r1", "r2"), "")
		spec := u.httpRoute().Spec
		p.Spec, _ = json.Marshal(spec)
		return p
	case 0:
		return u.policy("policy.underlane.io", "AuthorizationPolicy", name, `{"targetRefs":[{"group":"","kind":"Pod","selector":`+u.selector()+`}],"action":"`+u.one("ALLOW", "DENY", "odd")+`","rules":[{"sources":[{"type":"ServiceAccount","serviceAccount":{"name":"x"}}]}]}`)
	case 1:
		return u.policy("policy.underlane.io", "RateLimitPolicy", name, `{"scope":"`+u.one("Cluster", "Node")+`","targetRefs":[{"group":"","kind":"Pod","selector":`+u.selector()+`}],"limits":[{"requests":10}]}`)
	case 2, 3:
		spec := `{"action":"` + u.one("ALLOW", "DENY", "CUSTOM") + `","provider":{"name":"auth"},"rules":[{"from":[{"source":{"namespaces":["a"]}}]}]`
		if u.n(3) == 0 {
			return u.policy("security.istio.io", "AuthorizationPolicy", name, spec+`,"targetRefs":[{"kind":"Service","name":"`+u.one("v", "w")+`"}]}`)
		}
		return u.policy("security.istio.io", "AuthorizationPolicy", name, spec+`,"selector":`+u.selector()+`}`)
	case 4:
		return u.policy("security.istio.io", "PeerAuthentication", name, `{"selector":`+u.selector()+`,"mtls":{"mode":"`+u.one("STRICT", "PERMISSIVE")+`"}}`)
	case 5:
		return u.policy("policy.linkerd.io", "Server", u.one("v", "w"), `{"podSelector":`+u.selector()+`,"port":`+u.one(`"http"`, `8080`, `"none"`)+`,"proxyProtocol":"`+u.one("HTTP/1", "opaque", "")+`"}`)
	case 6:
		return u.policy("policy.linkerd.io", "AuthorizationPolicy", name, `{"targetRef":{"group":"policy.linkerd.io","kind":"Server","name":"`+u.one("v", "w")+`"},"requiredAuthenticationRefs":[{"group":"policy.linkerd.io","kind":"MeshTLSAuthentication","name":"m","namespace":"`+u.namespace()+`"}]}`)
	case 7:
		return u.policy("policy.linkerd.io", "MeshTLSAuthentication", "m", `{"identities":["`+u.one("*", "x.a.serviceaccount.identity.linkerd.cluster.local", "odd")+`"]}`)
	}
	return u.policy("policy.linkerd.io", "HTTPLocalRateLimitPolicy", name, `{"targetRef":{"group":"policy.linkerd.io","kind":"Server","name":"`+u.one("v", "w")+`"},"total":{"requestsPerSecond":10}}`)
}

// object draws an object of any kind.
func (u *universe) object() metav1.Object {
	switch u.n(24) {
	case 0:
		o := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: u.namespace(), Labels: map[string]string{mesh.LabelMesh: u.one(mesh.LabelEnabled, mesh.LabelDisabled, "odd")}}}
		o.Annotations = u.annotations(mesh.AnnotationPolicy, u.one("strict", "deny"), mesh.AnnotationSameNode, u.one("wire", "shortcut", "odd"))
		return o
	case 1:
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: u.one("n1", "n2"), Labels: map[string]string{corev1.LabelTopologyZone: u.one("z1", "z2")}},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: u.one("172.16.0.1", "172.16.0.2")}}},
		}
	case 2:
		return &networkingv1.NetworkPolicy{ObjectMeta: u.meta("np"), Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: u.labels()}}}
	case 3:
		if u.n(3) > 0 {
			break // they are about everything
		}
		o := &metav1.PartialObjectMetadata{ObjectMeta: u.meta("cilium")}
		o.Kind, o.APIVersion = "CiliumNetworkPolicy", "cilium.io/v2"
		return o
	case 4, 5, 6:
		return u.service()
	case 7, 8:
		return u.slice()
	case 9, 10:
		return u.httpRoute()
	case 11:
		r := &gatewayv1.GRPCRoute{ObjectMeta: u.meta("g")}
		r.Spec.ParentRefs = u.parents()
		r.Spec.Rules = []gatewayv1.GRPCRouteRule{{BackendRefs: []gatewayv1.GRPCBackendRef{{BackendRef: u.backend()}}}}
		return r
	case 12:
		r := &gatewayv1.TCPRoute{ObjectMeta: u.meta("tcp")}
		r.Spec.ParentRefs = u.parents()
		r.Spec.Rules = []gatewayv1.TCPRouteRule{{BackendRefs: []gatewayv1.BackendRef{u.backend()}}}
		return r
	case 13:
		return &custom.EgressNetwork{ObjectMeta: u.meta(u.one("v", "w")), Spec: []byte(u.one(`{"trafficPolicy":"Allow"}`, `{"trafficPolicy":"Deny"}`, `{}`))}
	case 14:
		p := &gatewayx.XBackendTrafficPolicy{ObjectMeta: u.meta(u.one("t1", "t2"))}
		for range 1 + u.n(2) {
			p.Spec.TargetRefs = append(p.Spec.TargetRefs, gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: gatewayv1.ObjectName(u.one("v", "w"))})
		}
		if u.n(2) == 0 {
			p.Spec.RetryConstraint = &gatewayx.RetryConstraint{Budget: &gatewayx.BudgetDetails{Percent: ref(u.n(3) * 60)}}
		}
		return p
	case 15:
		s := &custom.TrafficSplit{ObjectMeta: u.meta(u.one("s1", "s2"))}
		s.Spec.Service = u.one("v", "w", "v.b")
		s.Spec.Backends = []custom.TrafficSplitBackend{{Service: u.one("v", "w", "x"), Weight: resource.MustParse(u.one("1", "500m"))}}
		if u.n(3) == 0 {
			s.Spec.Matches = []custom.TrafficSplitMatch{{Kind: custom.HTTPRouteGroups.Kind, Name: "group"}}
		}
		return s
	case 16:
		g := &custom.HTTPRouteGroup{ObjectMeta: u.meta("group")}
		g.Spec.Matches = []custom.HTTPMatch{{PathRegex: u.one("/x", "/y")}}
		return g
	case 17:
		f := &custom.HTTPFault{ObjectMeta: u.meta("f")}
		if u.n(3) > 0 {
			f.Spec.Abort = &custom.HTTPFaultAbort{Status: int32(500 + u.n(3))}
		}
		return f
	case 18, 19:
		return u.policies()
	}
	return u.pod()
}

func keyOf(o metav1.Object) string {
	kind := fmt.Sprintf("%T", o)
	switch o := o.(type) {
	case *custom.PolicyObject:
		kind += o.QualifiedKind()
	case *metav1.PartialObjectMetadata:
		kind += o.Kind
	}
	return kind + " " + o.GetNamespace() + "/" + o.GetName()
}

// batch draws changes.
func (u *universe) batch() translate.Batch {
	var b translate.Batch
	for range 1 + u.n(4) {
		if u.n(4) == 0 && len(u.objects) > 0 {
			keys := slices.Sorted(maps.Keys(u.objects))
			k := keys[u.n(len(keys))]
			b.Changes = append(b.Changes, translate.Change{Object: u.objects[k], Gone: true})
			delete(u.objects, k)
			continue
		}
		o := u.object()
		if old := u.objects[keyOf(o)]; old != nil && old.GetUID() != o.GetUID() {
			b.Changes = append(b.Changes, translate.Change{Object: old, Gone: true})
		}
		b.Changes = append(b.Changes, translate.Change{Object: o})
		u.objects[keyOf(o)] = o
	}
	if u.n(16) == 0 {
		u.unknown = !u.unknown
	}
	b.ForeignUnknown = u.unknown
	return b
}

// whole is the batch that makes all of it out of nothing, in an order of its own.
func (u *universe) whole() translate.Batch {
	b := translate.Batch{ForeignUnknown: u.unknown}
	for _, k := range slices.Sorted(maps.Keys(u.objects)) {
		b.Changes = append(b.Changes, translate.Change{Object: u.objects[k]})
	}
	return b
}

var incrementalConfig = translate.Config{TrustDomain: "cluster.local", Providers: []istiopolicy.Provider{{
	Name: "auth", ExternalAuth: mesh.ExternalAuth{Service: mesh.ServicePortRef{Namespace: "a", Name: "v", Port: 80}},
}}}

var compare = []cmp.Option{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()}

// mirror is what somebody knows who follows the Changes.
type mirror struct {
	workloads map[string]*mesh.Workload
	services  map[string]*mesh.Service
	routes    map[string]*mesh.Route
	egress    map[string]*mesh.EgressNetwork
}

func follow[T any](t *testing.T, into map[string]*T, all []mesh.Changed[T], key func(*T) string) {
	for _, c := range all {
		if c.Before != nil {
			if into[key(c.Before)] != c.Before {
				t.Errorf("a change from %s, which is not what it was", key(c.Before))
			}
			delete(into, key(c.Before))
		}
	}
	for _, c := range all {
		if c.Before != nil && c.After != nil && reflect.DeepEqual(c.Before, c.After) {
			t.Errorf("%s has not changed, and is another pointer", key(c.After))
		}
		if c.After != nil {
			into[key(c.After)] = c.After
		}
	}
}

func same[T any](t *testing.T, what string, got map[string]*T, want []*T, key func(*T) string) {
	if len(got) != len(want) {
		t.Errorf("%s: the changes lead to %d, and there are %d", what, len(got), len(want))
	}
	for _, v := range want {
		if got[key(v)] != v {
			t.Errorf("%s: %s is not what the changes lead to", what, key(v))
		}
	}
}

// checkSequence applies random batches, and compares with the translation of the whole.
func checkSequence(t *testing.T, data []byte, batches int) {
	u := &universe{dice: dice{data}, objects: map[string]metav1.Object{}}
	tr := translate.New(incrementalConfig)
	m := mirror{map[string]*mesh.Workload{}, map[string]*mesh.Service{}, map[string]*mesh.Route{}, map[string]*mesh.EgressNetwork{}}
	workload := func(w *mesh.Workload) string { return w.Namespace + "/" + w.Name }
	service := func(s *mesh.Service) string { return s.Namespace + "/" + s.Name }
	egress := func(n *mesh.EgressNetwork) string { return n.Namespace + "/" + n.Name }
	route := func(r *mesh.Route) string {
		return fmt.Sprint(r.Kind, r.Namespace, r.Name, r.Parent, r.Egress)
	}
	for i := range batches {
		if len(u.data) == 0 {
			return
		}
		before := tr.Result()
		b := u.batch()
		changes := tr.Apply(b)
		got := tr.Result()
		fresh := translate.New(incrementalConfig)
		fresh.Apply(u.whole())
		if diff := cmp.Diff(fresh.Result(), got, compare...); diff != "" {
			var names []string
			for _, c := range b.Changes {
				names = append(names, fmt.Sprint(keyOf(c.Object), " ", c.Gone))
			}
			t.Fatalf("batch %d %q: -whole +incremental: %s", i, names, diff)
		}
		follow(t, m.workloads, changes.Workloads, workload)
		follow(t, m.services, changes.Services, service)
		follow(t, m.routes, changes.Routes, route)
		follow(t, m.egress, changes.Egress, egress)
		same(t, "workloads", m.workloads, got.Workloads, workload)
		same(t, "services", m.services, got.Services, service)
		same(t, "routes", m.routes, got.Routes, route)
		same(t, "egress", m.egress, got.Egress, egress)
		for uid, spec := range got.Authz {
			if changed, is := changes.Authz[uid]; is && changed != spec || !is && before.Authz[uid] != spec {
				t.Errorf("policies of %s are not what the changes say", uid)
			}
		}
		if !changes.Statuses && !reflect.DeepEqual(before.RouteStatuses, got.RouteStatuses) {
			t.Error("the statuses have changed, and the changes do not say so")
		}
		if !changes.Problems && !reflect.DeepEqual(before.Problems, got.Problems) {
			t.Error("the problems have changed, and the changes do not say so")
		}
		if !changes.Nodes && !slices.Equal(before.Nodes, got.Nodes) {
			t.Error("the nodes have changed, and the changes do not say so")
		}
		if tr.Misread() != 0 || fresh.Misread() != 0 {
			t.Fatal("a value depends on one that is not of a lower level")
		}
		if t.Failed() {
			t.Fatalf("batch %d", i)
		}
	}
	everything := u.whole()
	for i := range everything.Changes {
		everything.Changes[i].Gone = true
	}
	tr.Apply(everything)
	for range 200 { // units are looked through once in as many changes as there are units
		o := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "last"}}
		tr.Apply(translate.Batch{Changes: []translate.Change{{Object: o}, {Object: o, Gone: true}}})
	}
	if r := tr.Result(); len(r.Workloads)+len(r.Services)+len(r.Routes)+len(r.Authz)+len(r.Egress)+len(r.RouteStatuses)+len(r.Problems)+len(r.Nodes) > 0 {
		t.Fatalf("without objects there is %+v", r)
	}
	if n := tr.Units(); n > 2 { // the policies of Istio's root namespace, and perhaps the last one
		t.Errorf("without objects %d units are left", n)
	}
}

// TestIncrementalIsTheWhole: whatever the sequence of changes, the result is that of the whole.
func TestIncrementalIsTheWhole(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		data := make([]byte, 4000)
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		checkSequence(t, data, 60)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzIncremental(f *testing.F) {
	for seed := range uint64(8) {
		data := make([]byte, 600)
		r := rand.New(rand.NewPCG(seed, 3))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkSequence(t, data, 40) })
}
