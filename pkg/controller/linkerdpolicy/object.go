// Package linkerdpolicy translates Linkerd's inbound policies (policy.linkerd.io) to
// those of pkg/policy/authz. It is pure.
//
// It decides as Linkerd does: a Server denies what its accessPolicy and the policies
// that target it, its namespace or its routes do not allow; all references of a
// policy have to hold; a policy with a reference that leads nowhere allows nothing.
// Which Servers select a port of a pod, and which route a request belongs to, is
// found elsewhere.
package linkerdpolicy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/controller/policyobject"
)

// Group is the API group of Linkerd's policies.
const Group = "policy.linkerd.io"

// Server is a resource of policy.linkerd.io.
type Server struct {
	Namespace, Name string
	Labels          map[string]string
	Spec            ServerSpec
	Unknown         []string // fields that are not known
}

// ServerSpec is what is translated of a Server's specification.
type ServerSpec struct {
	PodSelector              json.RawMessage `json:"podSelector"`
	ExternalWorkloadSelector json.RawMessage `json:"externalWorkloadSelector"`
	Port                     json.RawMessage `json:"port"`
	ProxyProtocol            string          `json:"proxyProtocol"`
	AccessPolicy             string          `json:"accessPolicy"` // "" is deny
}

// protocols are the values of proxyProtocol.
var protocols = []string{"", "unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"}

// Reference names an object. An empty Group is that of Kubernetes' core, an empty
// Namespace the one of the object that has the reference.
type Reference struct {
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (r Reference) is(group, kind string) bool {
	if r.Group == "core" {
		r.Group = ""
	}
	return strings.EqualFold(r.Group, group) && strings.EqualFold(r.Kind, kind)
}

func (r Reference) String() string {
	name := r.Name
	if r.Namespace != "" {
		name = r.Namespace + "/" + r.Name
	}
	if r.Group == "" {
		return r.Kind + " " + name
	}
	return r.Kind + "." + r.Group + " " + name
}

// AuthorizationPolicy is a resource of policy.linkerd.io.
type AuthorizationPolicy struct {
	Namespace, Name string
	Spec            struct {
		TargetRef                  Reference   `json:"targetRef"`
		RequiredAuthenticationRefs []Reference `json:"requiredAuthenticationRefs"`
	}
	Unknown []string
}

// MeshTLSAuthentication is a resource of policy.linkerd.io.
type MeshTLSAuthentication struct {
	Namespace, Name string
	Spec            struct {
		Identities   []string    `json:"identities"`
		IdentityRefs []Reference `json:"identityRefs"`
	}
	Unknown []string
}

// NetworkAuthentication is a resource of policy.linkerd.io.
type NetworkAuthentication struct {
	Namespace, Name string
	Spec            struct {
		Networks []Network `json:"networks"`
	}
	Unknown []string
}

// Network is a CIDR or an address, without parts of it.
type Network struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except"`
}

// Objects are the policies of a cluster, and what they refer to. Its methods must not be called
// by several goroutines at a time.
type Objects struct {
	Servers  []Server
	Policies []AuthorizationPolicy
	MeshTLS  []MeshTLSAuthentication
	Networks []NetworkAuthentication
	Older    []ServerAuthorization
	// AllRoutes are those that may be attached to a Server: Routes has those that are.
	AllRoutes  []Route
	RateLimits []RateLimitPolicy
	// Cluster are the networks of the cluster, in which the clients of a ServerAuthorization
	// are that names no networks.
	Cluster []netip.Prefix

	index *index // see places
}

// Add adds an object in JSON, if it is of a kind that this package translates. A field
// that is not known, or has another type, is kept as such and makes what uses the object
// fail closed.
func (o *Objects) Add(object []byte) error {
	head, err := policyobject.ReadMeta(object)
	if err != nil {
		return err
	}
	o.add(head, object)
	return nil
}

func (o *Objects) add(head policyobject.Meta, object []byte) { o.Put(readObject(head, object)) }

// ReadSpec reads an object of which the specification is given in JSON, and what
// policyobject.ReadMeta would read, for Put.
func ReadSpec(head policyobject.Meta, spec []byte) any {
	return readObject(head, slices.Concat([]byte(`{"spec":`), spec, []byte("}")))
}

// readObject returns a Server, Route and so on, or nil for a kind that is not known.
func readObject(head policyobject.Meta, object []byte) any {
	if head.Kind == "HTTPRoute" && (head.Group == gatewayGroup || head.Group == Group) || head.Kind == "GRPCRoute" && head.Group == gatewayGroup {
		spec, unknown := policyobject.Read[RouteSpec](object)
		return Route{Meta: head, Spec: spec, Unknown: unknown.All(), Broken: unknown.Broken}
	}
	if head.Group != Group {
		return nil
	}
	namespace, name := head.Namespace, head.Name
	switch head.Kind {
	case "Server":
		s := Server{Namespace: namespace, Name: name, Labels: head.Labels}
		s.Unknown = readSpec(object, &s.Spec)
		if !slices.Contains(protocols, s.Spec.ProxyProtocol) {
			s.Unknown = append(s.Unknown, fmt.Sprintf("spec.proxyProtocol %q", s.Spec.ProxyProtocol))
		}
		return s
	case "AuthorizationPolicy":
		p := AuthorizationPolicy{Namespace: namespace, Name: name}
		p.Unknown = readSpec(object, &p.Spec)
		return p
	case "MeshTLSAuthentication":
		a := MeshTLSAuthentication{Namespace: namespace, Name: name}
		a.Unknown = readSpec(object, &a.Spec)
		return a
	case "NetworkAuthentication":
		a := NetworkAuthentication{Namespace: namespace, Name: name}
		a.Unknown = readSpec(object, &a.Spec)
		return a
	case "ServerAuthorization":
		a := ServerAuthorization{Namespace: namespace, Name: name}
		a.Unknown = readSpec(object, &a.Spec)
		return a
	case "HTTPLocalRateLimitPolicy":
		spec, unknown := policyobject.Read[RateLimitSpec](object)
		return RateLimitPolicy{Meta: head, Spec: spec, Unknown: unknown.All(), broken: unknown.Broken}
	}
	return nil
}

// Put adds what ReadSpec returned. It keeps a copy, and changes nothing that this refers to.
func (o *Objects) Put(object any) {
	switch object := object.(type) {
	case Route:
		o.AllRoutes = append(o.AllRoutes, object)
	case Server:
		o.Servers = append(o.Servers, object)
	case AuthorizationPolicy:
		o.Policies = append(o.Policies, object)
	case MeshTLSAuthentication:
		o.MeshTLS = append(o.MeshTLS, object)
	case NetworkAuthentication:
		o.Networks = append(o.Networks, object)
	case ServerAuthorization:
		o.Older = append(o.Older, object)
	case RateLimitPolicy:
		o.RateLimits = append(o.RateLimits, object)
	}
}

// readSpec decodes the specification of an object. It returns what it does not understand.
func readSpec[T any](object []byte, spec *T) []string {
	out, unknown := policyobject.Read[T](object)
	*spec = out
	return unknown.All()
}

// read decodes a part of one.
func read(data []byte, spec any) []string {
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	err := strict.Decode(spec)
	if err == nil {
		return nil
	}
	return []string{strings.TrimPrefix(err.Error(), "json: ")}
}
