package tapv1alpha1

import (
	"net/url"
	"path"
)

// AuthzAccessName is the last part of the path of AuthzAccess.
const AuthzAccessName = "access"

// AuthzAccessPath is the path of the question who may connect to the workloads of a namespace
// (AuthzAccess).
func AuthzAccessPath(namespace string) string {
	return Prefix + path.Join("/namespaces", url.PathEscape(namespace), "authz", AuthzAccessName)
}

// AuthzAccess is the answer of …/authz/access: who may connect to the workloads of a
// namespace, whether they have done so or not.
type AuthzAccess struct {
	Kind       string `json:"kind"` // AuthzAccess
	APIVersion string `json:"apiVersion"`
	Namespace  string `json:"namespace"` // of the servers
	// DecidedBy says whose policies decided.
	DecidedBy string        `json:"decidedBy"`
	Warnings  []string      `json:"warnings"`
	Notes     []string      `json:"notes"` // what is left out, and why
	Clients   []AuthzClient `json:"clients"`
	Servers   []AuthzServer `json:"servers"`
	// Egress are the networks outside that decide about what the namespace calls; null: who
	// answers does not know them.
	Egress []AuthzEgress `json:"egress"`
}

// Kinds of an AuthzClient that is no workload.
const (
	ClientNetwork  = "network"  // Name is a CIDR that a policy names
	ClientIdentity = "identity" // Identity is one that a policy names, and no workload has
	ClientStranger = "stranger" // a client without an identity, whose address no policy names
)

// AuthzClient is who may be allowed to connect.
type AuthzClient struct {
	Kind      string `json:"kind"` // of a workload: deployment, …; or one of the constants above
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Identity  string `json:"identity,omitempty"` // SPIFFE ID; "": none
}

// AuthzServer is a port of a workload, with what decides about all clients.
type AuthzServer struct {
	Namespace string   `json:"namespace"`
	Kind      string   `json:"kind"`
	Name      string   `json:"name"`
	Port      uint16   `json:"port"`               // of the pods; 0: no Service and no policy names one
	Services  []string `json:"services,omitempty"` // that lead to the port
	// Mode is what decides where no policy does: underlane.io/policy. "": no policy of the mesh
	// holds.
	Mode    string   `json:"mode,omitempty"`
	Objects []string `json:"objects,omitempty"` // policies, and groups of them, that are about the workload
	// Uneven: the pods of the workload do not have the same policies. Those of one are taken.
	Uneven    bool            `json:"uneven,omitempty"`
	Decisions []AuthzDecision `json:"decisions"`
}

// AuthzDecision is a decision about a connection, and the clients that it is about.
type AuthzDecision struct {
	Verdict    string `json:"verdict"` // allow, deny, needs-request, ask
	Why        string `json:"why,omitempty"`
	Object     string `json:"object,omitempty"`
	Rule       string `json:"rule,omitempty"`
	Audit      string `json:"audit,omitempty"`
	WouldDeny  string `json:"wouldDeny,omitempty"`
	Conclusion string `json:"conclusion"`     // a sentence
	Rest       bool   `json:"rest,omitempty"` // it is about all clients that no other decision has
	Clients    []int  `json:"clients,omitempty"`
}

// AuthzEgress is an EgressNetwork, which decides about what pods of a namespace call outside.
type AuthzEgress struct {
	Namespace string             `json:"namespace"`
	Name      string             `json:"name"`
	Deny      bool               `json:"deny,omitempty"`    // what no route allows is refused
	Unknown   string             `json:"unknown,omitempty"` // what is not understood: everything is refused
	Networks  []string           `json:"networks"`
	Routes    []AuthzEgressRoute `json:"routes"`
}

// AuthzEgressRoute is a route of an EgressNetwork: it allows what it matches.
type AuthzEgressRoute struct {
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Port      uint16   `json:"port,omitempty"`      // 0: all ports
	Hostnames []string `json:"hostnames,omitempty"` // none: all
}
