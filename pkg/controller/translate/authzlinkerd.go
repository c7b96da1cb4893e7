package translate

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/bylabels"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/linkerdpolicy"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

const kindServer = "Server." + linkerdpolicy.Group

// linkerdServer is a Server, as pods need it.
type linkerdServer struct {
	name     string
	selector labels.Selector
	port     uint16 // 0: named
	portName string // "" with port 0: all ports
	opaque   bool
	group    authz.Group      // without ports
	limit    *authz.RateLimit // without ports; nil: none
	requests bool             // it looks at requests
}

// equal reports whether pods are judged alike by both.
func (s *linkerdServer) equal(other *linkerdServer) bool {
	a, b := *s, *other
	a.selector, b.selector = nil, nil
	return s.selector.String() == other.selector.String() && reflect.DeepEqual(a, b)
}

// linkerdFront has the policies of policy.linkerd.io.
type linkerdFront struct {
	t       *translation
	servers map[string]*bylabels.Index[*linkerdServer] // by namespace
}

func newLinkerdFront(t *translation, o *Objects) front {
	all := t.linkerdObjects(o)
	f := &linkerdFront{t: t, servers: map[string]*bylabels.Index[*linkerdServer]{}}
	wrong := serverProblems{}
	for i := range all.Servers {
		s := &all.Servers[i]
		in := f.servers[s.Namespace]
		if in == nil {
			in = &bylabels.Index[*linkerdServer]{}
			f.servers[s.Namespace] = in
		}
		server := t.linkerdServer(all, s, wrong)
		in.Add(server.selector, server)
	}
	for _, p := range all.Unattached() {
		t.authzProblem(p)
		wrong.add(p)
	}
	addServerRouteStatuses(t, all, wrong)
	addRateLimitStatuses(t, all, wrong)
	return f
}

// linkerdObjects returns the policies of policy.linkerd.io, and the routes that have a Server
// as parent.
func (t *translation) linkerdObjects(o *Objects) *linkerdpolicy.Objects {
	all := &linkerdpolicy.Objects{Cluster: t.config.ClusterNetworks}
	for _, p := range o.PolicyObjects {
		if p.GroupVersionKind().Group == linkerdpolicy.Group {
			all.Put(parsed(t, p, func() any {
				return linkerdpolicy.ReadSpec(policyMeta(linkerdpolicy.Group, p.Kind, &p.ObjectMeta), p.Spec)
			}))
		}
	}
	for _, r := range o.HTTPRoutes {
		addServerRoute(all, KindHTTPRoute, &r.ObjectMeta, r.Spec.ParentRefs, &r.Spec, custom.UnknownFields(r))
	}
	for _, r := range o.GRPCRoutes {
		addServerRoute(all, KindGRPCRoute, &r.ObjectMeta, r.Spec.ParentRefs, &r.Spec, custom.UnknownFields(r))
	}
	slices.SortFunc(all.AllRoutes, func(a, b linkerdpolicy.Route) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func addServerRoute(all *linkerdpolicy.Objects, kind string, meta *metav1.ObjectMeta, parents []gatewayv1.ParentReference, spec any, unknown []string) {
	if !slices.ContainsFunc(parents, isServerParent) {
		return
	}
	text, err := json.Marshal(spec)
	if err != nil {
		text = []byte(`{"unreadable":true}`) // no request belongs to it
	}
	route, is := linkerdpolicy.ReadSpec(policyMeta(gatewayv1.GroupName, kind, meta), text).(linkerdpolicy.Route)
	if is {
		route.Unknown = append(route.Unknown, unknown...)
		all.Put(route)
	}
}

func isServerParent(ref gatewayv1.ParentReference) bool {
	return ref.Group != nil && *ref.Group == linkerdpolicy.Group && ref.Kind != nil && *ref.Kind == "Server"
}

func policyMeta(group, kind string, m *metav1.ObjectMeta) policyobject.Meta {
	return policyobject.Meta{
		Group: group, Kind: kind, Namespace: m.Namespace, Name: m.Name, Generation: m.Generation,
		Created: m.CreationTimestamp.UTC(), Labels: m.Labels, Annotations: m.Annotations,
	}
}

// rule returns a group for each Server that selects one of the pod's ports.
func (f *linkerdFront) rule(p *pod) (out ruling) {
	w := p.workload
	by := map[uint16]string{}
	var limits []authz.RateLimit
	for _, s := range f.servers[w.Namespace].Select(p.Labels) {
		group := s.group
		group.Ports = s.ports(p.Pod)
		if len(group.Ports) == 0 && s.portName != "" {
			continue // the pod has no port of that name
		}
		for _, r := range group.Ports {
			if other, twice := by[r.First]; twice {
				f.t.problem(kindServer, w.Namespace, s.name, "selects port %d of pod %s, as Server %s does: both have to allow", r.First, w.Name, other)
			}
			by[r.First] = s.name
		}
		if s.opaque {
			out.opaque = append(out.opaque, group.Ports...)
		}
		if out.decided = append(out.decided, group.Ports...); len(group.Ports) == 0 {
			out.decided = allPorts
		}
		out.groups = append(out.groups, group)
		if s.limit != nil {
			limit := *s.limit
			limit.Ports = group.Ports
			limits = append(limits, limit)
		}
		out.requests = out.requests || s.requests
	}
	if len(limits) > 0 {
		out.amend = func(spec *authz.Spec) { spec.RateLimits = append(spec.RateLimits, limits...) }
	}
	return out
}

func (t *translation) linkerdServer(all *linkerdpolicy.Objects, s *linkerdpolicy.Server, wrong serverProblems) *linkerdServer {
	group, limit, problems := all.Group(s, t.config.TrustDomain)
	out := &linkerdServer{name: s.Name, opaque: s.Spec.ProxyProtocol == "opaque", group: group, limit: limit}
	report := func(format string, args ...any) { t.problem(kindServer, s.Namespace, s.Name, format, args...) }
	var err error
	if out.selector, err = selectorOf(s.Spec.PodSelector); err != nil {
		report("spec.podSelector: %v; taken to select every pod", err)
		out.selector = labels.Everything()
	}
	if err := json.Unmarshal(s.Spec.Port, &out.port); err != nil || out.port == 0 {
		out.port = 0
		if json.Unmarshal(s.Spec.Port, &out.portName) != nil || out.portName == "" {
			report("spec.port: %q is neither a port nor the name of one; taken for every port", s.Spec.Port)
			out.portName = ""
		}
	}
	spec := t.spec(out.group)
	compiled, found := authz.CompileWorkload(spec)
	out.requests = compiled.NeedsRequests(0)
	for _, p := range append(problems, found...) {
		t.authzProblem(p)
		wrong.add(p)
	}
	return out
}

// selectorOf reads a Server's podSelector. Without one it selects no pod: the Server is for
// external workloads.
func selectorOf(text json.RawMessage) (labels.Selector, error) {
	if len(text) == 0 || bytes.Equal(text, []byte("null")) {
		return labels.Nothing(), nil
	}
	return linkerdpolicy.ReadSelector(text)
}

// ports returns the ports of a pod that s is about, which it names by number or by their
// name. It returns nil for every port, and if the pod has none of that name.
func (s *linkerdServer) ports(p *Pod) []authz.PortRange {
	if s.port != 0 {
		return []authz.PortRange{authz.Port(s.port)}
	}
	var out []authz.PortRange
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			for _, port := range containers[i].Ports {
				if s.portName != "" && port.Name == s.portName && port.ContainerPort > 0 && port.ContainerPort < 1<<16 {
					out = append(out, authz.Port(uint16(port.ContainerPort)))
				}
			}
		}
	}
	return out
}
