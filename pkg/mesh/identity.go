package mesh

import (
	"fmt"
	"strings"
)

// Identity is the SPIFFE identity of a workload: one per Kubernetes service
// account. The zero Identity means "no identity" (an unauthenticated peer).
type Identity struct {
	TrustDomain    string
	Namespace      string
	ServiceAccount string
}

// IsZero reports whether id is the zero Identity.
func (id Identity) IsZero() bool { return id == Identity{} }

// String returns spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>,
// or "" for the zero Identity.
func (id Identity) String() string {
	if id.IsZero() {
		return ""
	}
	return "spiffe://" + id.TrustDomain + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

// ParseIdentity parses the form that String returns. It is strict: it accepts
// only this path shape, with no empty part, user, port, query, fragment or
// percent-encoding.
func ParseIdentity(uri string) (Identity, error) {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return Identity{}, fmt.Errorf("identity %q: not a spiffe:// URI", uri)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" ||
		parts[0] == "" || parts[2] == "" || parts[4] == "" || strings.ContainsAny(rest, "?#%@:") {
		return Identity{}, fmt.Errorf("identity %q: want spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>", uri)
	}
	return Identity{TrustDomain: parts[0], Namespace: parts[2], ServiceAccount: parts[4]}, nil
}
