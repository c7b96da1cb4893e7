package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	kjson "sigs.k8s.io/json"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/mesh"
)

// KindEgressNetwork is the kind of Linkerd's EgressNetworks.
const KindEgressNetwork = "EgressNetwork"

// egressSpec is the specification of an EgressNetwork.
type egressSpec struct {
	Networks *[]struct {
		CIDR   string   `json:"cidr"`
		Except []string `json:"except"`
	} `json:"networks"`
	TrafficPolicy string `json:"trafficPolicy"`
}

// outsideCluster returns the addresses of an EgressNetwork that names none: all but the
// cluster's, as in Linkerd.
func (t *translation) outsideCluster() []mesh.EgressRange {
	out := []mesh.EgressRange{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}, {CIDR: netip.MustParsePrefix("::/0")}}
	for _, p := range t.config.ClusterNetworks {
		i := 0
		if p.Addr().Is6() {
			i = 1
		}
		out[i].Except = append(out[i].Except, p)
	}
	return out
}

// addEgressNetwork translates a network. What is not understood makes it refuse everything
// that it is about.
func (t *translation) addEgressNetwork(o *custom.EgressNetwork) {
	n := &mesh.EgressNetwork{
		Namespace: o.Namespace, Name: o.Name, Created: o.CreationTimestamp.UTC(),
		Global: slices.Contains(mesh.SystemEgressNamespaces, o.Namespace),
	}
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var spec egressSpec
	strict, err := kjson.UnmarshalStrict(o.Spec, &spec)
	if err != nil {
		problem("spec: %v", err)
	}
	for _, e := range strict {
		problem("spec: %v", e)
	}
	switch spec.TrafficPolicy {
	case "Allow":
	case "Deny":
		n.Deny = true
	default:
		problem("spec.trafficPolicy: %q is neither Allow nor Deny", spec.TrafficPolicy)
	}
	n.Networks = t.outsideCluster()
	if spec.Networks != nil {
		n.Networks = nil
		for i, one := range *spec.Networks {
			r := mesh.EgressRange{}
			var err error
			if r.CIDR, err = parseNetwork(one.CIDR); err != nil {
				problem("spec.networks[%d].cidr: %v", i, err)
			}
			for j, except := range one.Except {
				p, err := parseNetwork(except)
				if err != nil {
					problem("spec.networks[%d].except[%d]: %v", i, j, err)
					continue // more is covered, by what is then refused
				}
				r.Except = append(r.Except, p)
			}
			n.Networks = append(n.Networks, r)
		}
	}
	if len(problems) > 0 {
		n.Unknown, n.Deny = strings.Join(problems, "; "), true
		if slices.ContainsFunc(n.Networks, func(r mesh.EgressRange) bool { return !r.CIDR.IsValid() }) || spec.Networks == nil {
			n.Networks = t.outsideCluster()
		}
		t.problem(KindEgressNetwork, o.Namespace, o.Name, "%s; everything is refused", n.Unknown)
	}
	t.Egress = append(t.Egress, n)
	t.RouteStatuses = append(t.RouteStatuses, RouteStatus{
		Kind: KindEgressNetwork, Namespace: o.Namespace, Name: o.Name,
		Parents: []gatewayv1.RouteParentStatus{{ControllerName: ControllerName, Conditions: []metav1.Condition{egressCondition(n)}}},
	})
}

// egressCondition has no generation: the definition has no place for it, and what an API server
// leaves out would be written again and again.
func egressCondition(n *mesh.EgressNetwork) metav1.Condition {
	if n.Unknown != "" {
		return condition(gatewayv1.RouteConditionAccepted, false, verdict{"Invalid", n.Unknown + "; everything is refused"}, 0)
	}
	// The words are Linkerd's, whose controller may write the same condition.
	return condition(gatewayv1.RouteConditionAccepted, true, verdict{gatewayv1.RouteReasonAccepted, ""}, 0)
}

// parseNetwork reads a range of addresses, or one address.
func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither a network nor an address", text)
	}
	return p.Masked(), nil
}

// isEgressParent reports whether a parent is an EgressNetwork.
func isEgressParent(ref *gatewayv1.ParentReference) bool {
	return valueOf(ref.Kind) == KindEgressNetwork && valueOf(ref.Group) == custom.LinkerdGroup
}

// eachEgressParent translates a route once for each of its parents that is an EgressNetwork,
// by rules, because the backends depend on the parent.
func (t *translation) eachEgressParent(kind string, meta *metav1.ObjectMeta, parents []gatewayv1.ParentReference, hostnames []gatewayv1.Hostname, rules func(*routeDraft)) {
	for i := range parents {
		if ref := &parents[i]; isEgressParent(ref) {
			d := t.draft(kind, meta)
			d.egress = &mesh.ServicePortRef{Namespace: meta.Namespace, Name: string(ref.Name)}
			if ref.Namespace != nil {
				d.egress.Namespace = string(*ref.Namespace)
			}
			rules(d)
			d.finish(parents[i:i+1], hostnames)
		}
	}
}

// egressParent finds the EgressNetwork and port of ref.
func (d *routeDraft) egressParent(ref *gatewayv1.ParentReference) (at mesh.ServicePortRef, problem string) {
	at = *d.egress
	switch {
	case !d.t.hasEgress(at.Namespace, at.Name):
		return at, fmt.Sprintf("there is no EgressNetwork %s/%s", at.Namespace, at.Name)
	case ref.SectionName != nil:
		return at, "an EgressNetwork has no sections"
	case ref.Port != nil && (*ref.Port < 1 || *ref.Port > 65535):
		return at, fmt.Sprintf("%d is not a port", *ref.Port)
	case ref.Port != nil:
		at.Port = uint16(*ref.Port)
	}
	return at, ""
}

// original reports whether ref is the EgressNetwork that is the route's parent: then
// requests go where their client wanted to.
func (d *routeDraft) original(ref *gatewayv1.BackendObjectReference) bool {
	if d.egress == nil || valueOf(ref.Kind) != KindEgressNetwork || valueOf(ref.Group) != custom.LinkerdGroup {
		return false
	}
	namespace := d.meta.Namespace
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	return namespace == d.egress.Namespace && string(ref.Name) == d.egress.Name
}

// outwards gives the rules without a backend the original destination.
func (d *routeDraft) outwards() {
	for i := range d.rules {
		if r := &d.rules[i]; len(r.Backends) == 0 {
			r.Backends = []mesh.RouteBackend{{Original: true, Weight: 1}}
		}
	}
}

// addTLSRoute translates a TLSRoute whose parents are EgressNetworks.
func (t *translation) addTLSRoute(r *gatewayv1.TLSRoute) {
	t.eachEgressParent(KindTLSRoute, &r.ObjectMeta, r.Spec.ParentRefs, r.Spec.Hostnames, func(d *routeDraft) {
		d.layer = mesh.LayerTLS
		for i := range r.Spec.Rules {
			d.streamRule(valueOf(r.Spec.Rules[i].Name), r.Spec.Rules[i].BackendRefs)
		}
		d.oneRule(len(r.Spec.Rules))
		d.distrust(custom.UnknownFields(r))
	})
}

// addTCPRoute translates a TCPRoute whose parents are EgressNetworks.
func (t *translation) addTCPRoute(r *gatewayv1.TCPRoute) {
	t.eachEgressParent(KindTCPRoute, &r.ObjectMeta, r.Spec.ParentRefs, nil, func(d *routeDraft) {
		d.layer = mesh.LayerTCP
		for i := range r.Spec.Rules {
			d.streamRule(valueOf(r.Spec.Rules[i].Name), r.Spec.Rules[i].BackendRefs)
		}
		d.oneRule(len(r.Spec.Rules))
		d.distrust(custom.UnknownFields(r))
	})
}

// streamRule adds a rule about connections.
func (d *routeDraft) streamRule(name string, backends []gatewayv1.BackendRef) {
	d.add(func(where string) mesh.RouteRule {
		out := mesh.RouteRule{Name: name}
		for i := range backends {
			out.Backends = append(out.Backends, d.routeBackend(&backends[i], nil, fmt.Sprintf("%s.backendRefs[%d]", where, i)))
		}
		return out
	})
}

func (d *routeDraft) oneRule(n int) {
	if n != 1 {
		d.reject(gatewayv1.RouteReasonUnsupportedValue, "rules: there are %d, and a %s has one", n, d.kind)
	}
}
