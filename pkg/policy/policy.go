// Package policy decides which clients may talk to a workload. It is pure: the
// same Input always gives the same Verdict, and there is no state, clock or I/O.
//
// The decision is made at the server's node, where a client cannot bypass it.
// Input may gain fields (the request's method and path come next) and Verdict
// may gain explanations. Callers that leave new fields zero keep working.
package policy

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
)

// Input is what the server's node knows about a connection.
type Input struct {
	Client       mesh.Identity // proven by mTLS or, on the same node, by the kernel; zero: none
	ClientAddr   netip.Addr
	ClientIsNode bool           // ClientAddr is one that the node's administrator trusts
	Server       *mesh.Workload // nil: not known; every client is refused
	Port         uint16         // of the server
}

// Verdict is a decision. Reason is ReasonNone if and only if Allowed.
type Verdict struct {
	Allowed bool
	Reason  mesh.Reason
}

var allowed = Verdict{Allowed: true}

func denied(r mesh.Reason) Verdict { return Verdict{Reason: r} }

// Decide applies the policy mode of in.Server. PolicyAllow admits every client.
// PolicyStrict admits mesh identities of the server's trust domain, and the
// server's node: its kubelet has no identity and must be able to probe. Any
// other mode is treated as strict.
func Decide(in Input) Verdict {
	switch {
	case in.Server == nil:
		return denied(mesh.ReasonPolicyDenied)
	case in.Server.Settings.Policy == mesh.PolicyAllow:
		return allowed
	case in.ClientIsNode:
		return allowed
	case in.Client.IsZero():
		return denied(mesh.ReasonNoIdentity)
	case in.Client.TrustDomain != in.Server.Identity.TrustDomain:
		return denied(mesh.ReasonPolicyDenied)
	}
	return allowed
}
