// Package istiopolicy translates Istio's policies (security.istio.io) to those of
// pkg/policy/authz: AuthorizationPolicy, PeerAuthentication and RequestAuthentication. It is
// pure, and nothing uses it yet.
//
// It decides as Istio's documentation says (security.istio.io/v1), with L7 rules for all
// workloads that a selector selects. It differs in these:
//
//   - What is not understood fails closed: a rule that allows matches nothing, one that
//     denies is judged without that part. Istio ignores some of it.
//   - Hosts are compared without their port.
//   - A policy with a Service as target is about the Service's pods, however they are
//     called. Policies for gateways are not applied.
//   - mode DISABLE of PeerAuthentication is PERMISSIVE: this mesh always offers mTLS.
//   - A request principal is compared as "issuer/subject". Whoever verifies tokens must
//     refuse subjects with a slash, which would read like another issuer.
package istiopolicy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Group is the API group of Istio's policies.
const Group = "security.istio.io"

// DefaultRootNamespace is the root namespace of an Istio that is not configured otherwise.
const DefaultRootNamespace = "istio-system"

// Mesh is what Istio's MeshConfig says.
type Mesh struct {
	RootNamespace      string // its policies are about all namespaces; "": DefaultRootNamespace
	TrustDomain        string
	TrustDomainAliases []string
}

// Workload is a pod that policies may be about.
type Workload struct {
	Namespace string
	Labels    map[string]string
	Services  []string     // names of the Services that select it
	Addresses []netip.Addr // its own
}

// Object is a policy of Istio.
type Object struct {
	policyobject.Meta
	Problems []authz.Problem // what is not understood, or not applied

	scope scope
	// Of one of the three kinds:
	authorization *authorization
	peer          *peer
	request       *request
}

// Condition returns the condition Accepted of the object. The caller sets
// LastTransitionTime.
func (o *Object) Condition() metav1.Condition {
	return policyobject.Accepted(o.Generation, o.Problems)
}

func (o *Object) problem(field, format string, args ...any) {
	o.Problems = append(o.Problems, authz.Problem{Policy: o.String(), Field: field, Text: fmt.Sprintf(format, args...)})
}

// Objects are the policies of a mesh.
type Objects struct {
	mesh        Mesh
	byNamespace map[string][]*Object
}

// New returns Objects without a policy.
func New(m Mesh) *Objects {
	if m.RootNamespace == "" {
		m.RootNamespace = DefaultRootNamespace
	}
	return &Objects{mesh: m, byNamespace: map[string][]*Object{}}
}

// Add adds an object in JSON. It returns nil for one of another kind, and an error for what is
// no object.
func (o *Objects) Add(object []byte) (*Object, error) {
	meta, err := policyobject.ReadMeta(object)
	if err != nil {
		return nil, err
	}
	if meta.Group != Group {
		return nil, nil
	}
	out := &Object{Meta: meta}
	switch meta.Kind {
	case "AuthorizationPolicy":
		out.readAuthorization(object, &o.mesh)
	case "PeerAuthentication":
		out.readPeer(object, o.mesh.RootNamespace)
	case "RequestAuthentication":
		out.readRequest(object)
	default:
		return nil, nil
	}
	out.Problems = policyobject.Shorten(out.Problems)
	// In the order of age, then of names: the oldest PeerAuthentication holds.
	all := o.byNamespace[meta.Namespace]
	at, _ := slices.BinarySearchFunc(all, out, func(a, b *Object) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	o.byNamespace[meta.Namespace] = slices.Insert(all, at, out)
	return out, nil
}

// covering yields the objects that are about a workload: those of the root namespace first.
func (o *Objects) covering(w *Workload, yield func(*Object)) {
	namespaces := []string{o.mesh.RootNamespace, w.Namespace}
	if w.Namespace == o.mesh.RootNamespace {
		namespaces = namespaces[:1]
	}
	for _, namespace := range namespaces {
		for _, object := range o.byNamespace[namespace] {
			if object.scope.covers(namespace == w.Namespace, w) {
				yield(object)
			}
		}
	}
}

// For returns the policies of a workload. They are compiled with Options.
func (o *Objects) For(w *Workload) (out []authz.Policy) {
	o.covering(w, func(object *Object) {
		switch {
		case object.authorization != nil:
			out = append(out, object.authorization.policy(w))
		case object.request != nil && len(object.request.deny.Rules) > 0:
			out = append(out, object.request.deny)
		}
	})
	if p, ok := o.mtls(w); ok {
		out = append(out, p)
	}
	return out
}

// Options are those under which Istio's policies are judged: without a policy that allows,
// everything is allowed; with one, what none matches is denied.
func (o *Objects) Options() authz.Options {
	return authz.Options{TrustDomain: o.mesh.TrustDomain, Default: authz.ModeAllUnauthenticated, Unmatched: authz.ModeDeny}
}

// selector is a WorkloadSelector.
type selector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

// targetRef is a PolicyTargetReference.
type targetRef struct {
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// scope says which workloads of its namespace an object is about.
type scope struct {
	labels   map[string]string
	targeted bool // services counts, not labels
	services []string
}

// readScope reads it. A target that is not understood is all workloads of the namespace.
func (o *Object) readScope(s *selector, one *targetRef, refs []targetRef) (unknown []string) {
	if one != nil {
		refs = append([]targetRef{*one}, refs...)
	}
	if s != nil {
		o.scope.labels = s.MatchLabels
	}
	if len(refs) == 0 {
		return nil
	}
	if s != nil {
		o.scope = scope{}
		return []string{"spec.targetRefs beside spec.selector"}
	}
	o.scope.targeted = true
	for _, r := range refs {
		if r.Group == "core" {
			r.Group = ""
		}
		switch {
		case r.Name == "" || r.Namespace != "" && r.Namespace != o.Namespace:
			unknown = append(unknown, fmt.Sprintf("spec.targetRefs: %s %q in the namespace %q", r.Kind, r.Name, r.Namespace))
		case r.Group == "" && r.Kind == "Service":
			o.scope.services = append(o.scope.services, r.Name)
		case r.Group == "gateway.networking.k8s.io" && (r.Kind == "Gateway" || r.Kind == "GatewayClass"),
			r.Group == "networking.istio.io" && r.Kind == "ServiceEntry":
			o.problem("spec.targetRefs", "%s %q is not of this mesh: the policy is not applied to it", r.Kind, r.Name)
		default:
			unknown = append(unknown, fmt.Sprintf("spec.targetRefs: the kind %s.%s", r.Kind, r.Group))
		}
	}
	if len(unknown) > 0 {
		o.scope = scope{}
	}
	return unknown
}

func (s *scope) covers(same bool, w *Workload) bool {
	if s.targeted {
		return same && slices.ContainsFunc(s.services, func(name string) bool { return slices.Contains(w.Services, name) })
	}
	for k, v := range s.labels {
		if got, ok := w.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
