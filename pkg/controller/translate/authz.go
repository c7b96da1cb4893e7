package translate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/linkerdpolicy"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// clusterNetworks are those of the modes cluster-authenticated and cluster-unauthenticated:
// the defaults of Linkerd's value clusterNetworks.
var clusterNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("fd00::/8"),
}

// defaultMode decides about the ports that no policy is about. nil: all clients may
// connect.
type defaultMode = *authz.Mode

// defaultModeOf reads the annotations, which have precedence over inherited.
func defaultModeOf(annotations map[string]string, inherited defaultMode, report reporter) defaultMode {
	if v, ok := annotations[mesh.AnnotationPolicy]; ok {
		switch mode, err := authz.ParseMode(v); {
		case err == nil:
			return &mode
		case v == mesh.PolicyAllow.String(), v == mesh.PolicyStrict.String():
			return nil
		}
		// settingsOf reports it. It is ignored.
	}
	v, ok := annotations[mesh.AnnotationLinkerdPolicy]
	if !ok {
		return inherited
	}
	mode, err := authz.ParseMode(v)
	if err != nil {
		report("annotation %s: %v; taken for %s", mesh.AnnotationLinkerdPolicy, err, mode)
	}
	return &mode
}

// linkerdServer is a Server, as pods need it.
type linkerdServer struct {
	name     string
	selector labels.Selector
	port     uint16 // 0: named
	portName string // "" with port 0: all ports
	opaque   bool
	group    authz.Group // without ports
	requests bool        // it looks at requests
}

// addLinkerdPolicies translates the objects of policy.linkerd.io, and gives the pods what
// applies to them. It must come after the pods.
func (t *translation) addLinkerdPolicies(objects []*custom.PolicyObject) {
	var all linkerdpolicy.Objects
	for _, o := range objects {
		all.AddSpec(o.Kind, o.Namespace, o.Name, o.Spec)
	}
	servers := map[string][]*linkerdServer{} // by namespace
	for i := range all.Servers {
		s := &all.Servers[i]
		servers[s.Namespace] = append(servers[s.Namespace], t.linkerdServer(&all, s))
	}
	for namespace, pods := range t.pods {
		for _, p := range pods {
			if p.workload.Meshed {
				t.authorize(p, servers[namespace])
			}
		}
	}
}

func (t *translation) linkerdServer(all *linkerdpolicy.Objects, s *linkerdpolicy.Server) *linkerdServer {
	policies, mode, problems := all.ForServer(s)
	out := &linkerdServer{
		name: s.Name, opaque: s.Spec.ProxyProtocol == "opaque",
		group: authz.Group{
			Name: "Server." + linkerdpolicy.Group + " " + s.Namespace + "/" + s.Name, Policies: policies, Default: mode, Unmatched: mode,
		},
	}
	report := func(format string, args ...any) { t.problem("Server", s.Namespace, s.Name, format, args...) }
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
	}
	return out
}

func (t *translation) spec(groups ...authz.Group) *authz.Spec {
	return &authz.Spec{TrustDomain: t.trustDomain, Cluster: clusterNetworks, Groups: groups}
}

// selectorOf reads a Server's podSelector. Without one it selects no pod: the Server is for
// external workloads.
func selectorOf(text json.RawMessage) (labels.Selector, error) {
	if len(text) == 0 || bytes.Equal(text, []byte("null")) {
		return labels.Nothing(), nil
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	var s metav1.LabelSelector
	if err := strict.Decode(&s); err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(&s)
}

// authorize sets what applies to a pod: a group for each Server that selects one of its
// ports, and the default mode for the other ports.
func (t *translation) authorize(p *pod, servers []*linkerdServer) {
	w := p.workload
	var groups []authz.Group
	var taken []authz.PortRange
	by := map[uint16]string{}
	for _, s := range servers {
		if !s.selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		group := s.group
		group.Ports = s.ports(p.Pod)
		if len(group.Ports) == 0 && s.portName != "" {
			continue // the pod has no port of that name
		}
		for _, r := range group.Ports {
			if other, twice := by[r.First]; twice {
				t.problem("Server", w.Namespace, s.name, "selects port %d of pod %s, as Server %s does: both have to allow", r.First, w.Name, other)
			}
			by[r.First] = s.name
			if s.opaque && !mesh.InRanges(w.Settings.OpaquePorts, r.First) {
				w.Settings.OpaquePorts = append(w.Settings.OpaquePorts[:len(w.Settings.OpaquePorts):len(w.Settings.OpaquePorts)], mesh.PortRange{First: r.First, Last: r.First})
			}
		}
		taken = append(taken, group.Ports...)
		if len(group.Ports) == 0 {
			taken = []authz.PortRange{{First: 1, Last: 65535}}
		}
		groups = append(groups, group)
		w.RequestRules = w.RequestRules || s.requests
	}
	if mode := p.mode; mode != nil && *mode != authz.ModeAllUnauthenticated {
		groups = append(groups, authz.Group{Name: "default", NotPorts: taken, Default: *mode, Unmatched: *mode})
	}
	if len(groups) == 0 {
		return
	}
	w.Authorized = true
	if t.Authz == nil {
		t.Authz = map[string]*authz.Spec{}
	}
	t.Authz[w.UID] = t.spec(groups...)
}

// ports returns the ports of a pod that s is about, which it names by number or by their
// name. It returns nil for every port, and if the pod has none of that name.
func (s *linkerdServer) ports(p *corev1.Pod) []authz.PortRange {
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

// authzProblem reports a problem of an object, whose name is "KIND.GROUP NAMESPACE/NAME".
func (t *translation) authzProblem(p authz.Problem) {
	object, name, _ := strings.Cut(p.Policy, " ")
	kind, _, _ := strings.Cut(object, ".")
	namespace, name, _ := strings.Cut(name, "/")
	if kind == "" {
		kind = "authorization"
	}
	where := p.Field
	if p.Rule > 0 {
		where = fmt.Sprintf("rule %d: %s", p.Rule, p.Field)
	}
	t.problem(kind, namespace, name, "%s: %s", where, p.Text)
}
