// Package policy decides who may talk to a workload. It is pure: the same
// Input always has the same Verdict, and there is no state, clock or I/O.
//
// The decision is made at the server's node, where it cannot be walked around.
// Input may gain fields (the request's method and path come next), Verdict may
// gain explanations; callers that fill in what they know keep working.
package policy

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
)

// Input is what is known of a connection at the server's node.
type Input struct {
	Client       mesh.Identity // proven by mTLS or by this kernel; zero: none
	ClientAddr   netip.Addr
	ClientIsNode bool           // ClientAddr is one that the node's administrator vouches for
	Server       *mesh.Workload // nil: not known, and then nobody may come in
	Port         uint16         // of the server
}

// Verdict is a decision. Reason is ReasonNone when Allowed.
type Verdict struct {
	Allowed bool
	Reason  mesh.Reason
}

var allowed = Verdict{Allowed: true}

func denied(r mesh.Reason) Verdict { return Verdict{Reason: r} }

// Decide applies the policy mode of in.Server: allow lets everybody in; strict
// lets in mesh identities of the server's trust domain, and the server's node,
// whose kubelet has no identity and must be able to probe.
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
