// Package istiopolicy translates Istio's policies (security.istio.io) to those of
// pkg/policy/authz: AuthorizationPolicy, PeerAuthentication and RequestAuthentication. It is
// pure.
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
//   - A token for another audience is refused with 401, and one in a place without prefix
//     is the whole value.
//   - A token is refused whose issuer and subject read like another issuer of the workload.
package istiopolicy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/underlane/underlane/pkg/controller/bylabels"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Group is the API group of Istio's policies.
const Group = "security.istio.io"

// DefaultRootNamespace is the root namespace of an Istio that is not configured otherwise.
const DefaultRootNamespace = "istio-system"

// AnnotationDryRun on an AuthorizationPolicy says that it is only rehearsed: "true".
const AnnotationDryRun = "istio.io/dry-run"

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
	Requests bool            // it looks at requests

	scope scope
	// Of one of the three kinds:
	authorization *authorization
	peer          *peer
	tokens        []authz.TokenRule // of a RequestAuthentication
	refuses       bool              // nothing is let in: where tokens are cannot be read
}

// ConditionType is that of Condition. Istio's controller writes conditions of other types to
// the same list.
const ConditionType = "underlane.io/Accepted"

// Condition returns what the mesh says of the object. The caller sets LastTransitionTime.
func (o *Object) Condition() metav1.Condition { return o.ConditionWith(o.Problems) }

// ConditionWith is Condition for an object with these problems.
func (o *Object) ConditionWith(problems []authz.Problem) metav1.Condition {
	c := policyobject.Accepted(o.Generation, problems)
	c.Type = ConditionType
	return c
}

// Provider returns the name of the external authorizer that a policy asks, "" if it asks none.
func (o *Object) Provider() string {
	if o.authorization == nil || o.authorization.out.Action != authz.ActionExternal {
		return ""
	}
	return o.authorization.out.Provider
}

// Selector returns which workloads the object is about: of its namespace, or of all if that is
// the root namespace. It returns false if that depends on Services.
func (o *Object) Selector() (labels.Selector, bool) {
	return labels.SelectorFromSet(o.scope.labels), !o.scope.targeted
}

// Services returns the names of the Services, of its namespace, whose pods the object is about
// if Selector does not say it.
func (o *Object) Services() []string { return o.scope.services }

func (o *Object) problem(field, format string, args ...any) {
	o.Problems = append(o.Problems, authz.Problem{Policy: o.String(), Field: field, Text: fmt.Sprintf(format, args...)})
}

// Objects are the policies of a mesh.
type Objects struct {
	mesh        Mesh
	byNamespace map[string]*policies
}

// policies are those of a namespace.
type policies struct {
	selecting bylabels.Index[*Object]
	targeting map[string][]*Object // by the name of the Service
}

// New returns Objects without a policy.
func New(m Mesh) *Objects {
	return &Objects{mesh: m.withDefaults(), byNamespace: map[string]*policies{}}
}

func (m Mesh) withDefaults() Mesh {
	if m.RootNamespace == "" {
		m.RootNamespace = DefaultRootNamespace
	}
	return m
}

// Add reads an object in JSON and adds it. It returns nil for one of another kind, and an
// error for what is no object.
func (o *Objects) Add(object []byte) (*Object, error) {
	meta, err := policyobject.ReadMeta(object)
	if err != nil {
		return nil, err
	}
	if meta.Group != Group {
		return nil, nil
	}
	out := o.mesh.Read(meta, object)
	if out != nil {
		o.Insert(out)
	}
	return out, nil
}

// Read reads an object of Group whose metadata is known. Only spec is read of object, which
// is JSON. It returns nil for one of another kind.
func (m Mesh) Read(meta policyobject.Meta, object []byte) *Object {
	m = m.withDefaults()
	out := &Object{Meta: meta}
	switch meta.Kind {
	case "AuthorizationPolicy":
		out.readAuthorization(object, &m)
	case "PeerAuthentication":
		out.readPeer(object, m.RootNamespace)
	case "RequestAuthentication":
		out.readRequest(object)
	default:
		return nil
	}
	out.Problems = policyobject.Shorten(out.Problems)
	return out
}

// Insert adds an object that Read has returned for the same Mesh. It does not change it.
func (o *Objects) Insert(object *Object) {
	in := o.byNamespace[object.Namespace]
	if in == nil {
		in = &policies{targeting: map[string][]*Object{}}
		o.byNamespace[object.Namespace] = in
	}
	if !object.scope.targeted {
		in.selecting.Add(labels.SelectorFromSet(object.scope.labels), object)
		return
	}
	for i, name := range object.scope.services {
		if !slices.Contains(object.scope.services[:i], name) {
			in.targeting[name] = append(in.targeting[name], object)
		}
	}
}

// byAge orders by age, then by name: the oldest PeerAuthentication holds.
func byAge(a, b *Object) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
}

// covering returns the objects that are about a workload: those of the root namespace first.
func (o *Objects) covering(w *Workload) (out []*Object) {
	if w.Namespace != o.mesh.RootNamespace {
		if in := o.byNamespace[o.mesh.RootNamespace]; in != nil {
			out = in.selecting.Select(w.Labels)
			slices.SortFunc(out, byAge)
		}
	}
	in := o.byNamespace[w.Namespace]
	if in == nil {
		return out
	}
	own := in.selecting.Select(w.Labels)
	for i, service := range w.Services {
		if slices.Contains(w.Services[:i], service) {
			continue
		}
		for _, object := range in.targeting[service] {
			if !slices.Contains(own, object) {
				own = append(own, object)
			}
		}
	}
	slices.SortFunc(own, byAge)
	return append(out, own...)
}

// Targets reports whether a policy of the namespace has a Service as target.
func (o *Objects) Targets(namespace string) bool {
	in := o.byNamespace[namespace]
	return in != nil && len(in.targeting) > 0
}

// For returns the policies of a workload. They are compiled with Options.
func (o *Objects) For(w *Workload) []authz.Policy {
	out, _ := o.Policies(w)
	return out
}

// Policies returns For, and whether one of them looks at requests.
func (o *Objects) Policies(w *Workload) (out []authz.Policy, requests bool) {
	all := o.covering(w)
	for _, object := range all {
		if object.authorization != nil {
			out = append(out, object.authorization.policy(w))
		}
		if object.refuses {
			out = append(out, authz.Policy{Name: object.String(), Action: authz.ActionDeny, Rules: []authz.Rule{{}}})
		}
		requests = requests || object.Requests
	}
	if p, ok := o.mtls(all); ok {
		out = append(out, p)
	}
	return out, requests
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

// widen makes an object be about all workloads of its namespace if its target may be what was
// not read.
func (o *Object) widen(unknown *policyobject.Unknown) {
	if unknown.Broken {
		o.scope = scope{}
	}
}
