package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// defaultMode decides about the ports that no policy is about. nil: all clients may
// connect.
type defaultMode = *authz.Mode

// defaultModeOf reads the annotations, which have precedence over inherited.
func defaultModeOf(annotations map[string]string, inherited defaultMode, report reporter) defaultMode {
	if v, ok := annotations[mesh.AnnotationPolicy]; ok {
		if v == mesh.PolicyAllow.String() || v == mesh.PolicyStrict.String() {
			return nil
		}
		mode, err := authz.ParseMode(v)
		if err != nil { // a word for "closed" must not mean "open"
			report("annotation %s: %q is neither %s nor %s nor a mode; taken for %s", mesh.AnnotationPolicy, v, mesh.PolicyAllow, mesh.PolicyStrict, mode)
		}
		return &mode
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

// front is a language of authorization policies, with the policies of the cluster.
type front interface {
	// rule returns what the policies say of a pod of the mesh.
	rule(p *pod) ruling
}

// fronts make the front of each language. A new language is added here.
var fronts = []func(*translation, *Objects) front{newLinkerdFront, newOwnFront, newIstioFront}

// ruling is what one language says of a pod. The zero ruling says nothing.
type ruling struct {
	// groups are judged for their own ports. All groups of all languages that have a port
	// have to allow.
	groups []authz.Group
	// decided are the ports for which the language decides about all clients. The pod's
	// default mode does not apply to them.
	decided []authz.PortRange
	// opaque are ports whose connections carry bytes that must not be read as requests.
	opaque []authz.PortRange
	// requests: one of the groups looks at requests.
	requests bool
	// amend adds to the Spec what the language needs beside the groups. nil: nothing.
	amend func(*authz.Spec)
}

// allPorts are the ports of a ruling that is about every port.
var allPorts = []authz.PortRange{{First: 1, Last: 65535}}

// comparePolicies orders policies by name. Their order says which of two rules that match is
// reported, and whether the pods' policies have changed.
func comparePolicies(a, b *custom.PolicyObject) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.APIVersion, b.APIVersion))
}

// authorize sets what applies to a pod: what each language says, and the default mode
// for the ports about which none decides. It returns nil if nothing does.
func (t *translation) authorize(p *pod, fronts []front, limits rateLimits) *authz.Spec {
	w := p.workload
	spec := t.spec()
	var decided []authz.PortRange
	for _, f := range fronts {
		r := f.rule(p)
		spec.Groups = append(spec.Groups, r.groups...)
		decided = append(decided, r.decided...)
		w.RequestRules = w.RequestRules || r.requests
		w.Settings.OpaquePorts = withPorts(w.Settings.OpaquePorts, r.opaque)
		if r.amend != nil {
			r.amend(spec)
		}
	}
	if mode := p.mode; mode != nil && *mode != authz.ModeAllUnauthenticated {
		spec.Groups = append(spec.Groups, authz.Group{Name: authz.DefaultGroup, NotPorts: decided, Default: *mode, Unmatched: *mode})
	}
	spec.Limits = slices.Concat(p.unread, limits.of(p))
	w.Authorized = len(spec.Groups) > 0 || len(spec.Tokens) > 0
	w.Limited = len(spec.Limits) > 0
	// The limits see requests as they arrive, as policies that look at requests do.
	w.RequestRules = w.RequestRules || w.Limited
	if !w.Authorized && !w.Limited {
		return nil
	}
	return spec
}

// withPorts returns a copy of ports with those of more that it does not have.
func withPorts(ports []mesh.PortRange, more []authz.PortRange) []mesh.PortRange {
	for _, r := range more {
		if !mesh.InRanges(ports, r.First) || !mesh.InRanges(ports, r.Last) {
			ports = append(slices.Clip(ports), mesh.PortRange{First: r.First, Last: r.Last})
		}
	}
	return ports
}

func (t *translation) spec(groups ...authz.Group) *authz.Spec {
	return &authz.Spec{TrustDomain: t.config.TrustDomain, Cluster: t.config.ClusterNetworks, Groups: groups}
}

// authzProblem reports a problem of an object, whose name is "KIND.GROUP NAMESPACE/NAME".
func (t *report) authzProblem(p authz.Problem) {
	kind, name, _ := strings.Cut(p.Policy, " ")
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
