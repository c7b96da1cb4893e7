// Package authz decides which clients may reach a workload, and with which
// requests. It is pure: a Set is compiled once from policies, is immutable, and
// the same facts always give the same Decision. There is no state, clock or I/O.
//
// # The decision
//
// The policies of one workload, or of one of its ports, are judged in this order:
//
//  1. A probe of the workload's own node is allowed.
//  2. ActionExternal: where a rule matches, an external authorizer has to allow
//     the request. It is asked about what nothing else denies.
//  3. ActionDeny: where a rule matches, the request is denied.
//  4. ActionAudit: what matches is reported beside the decision and changes nothing.
//  5. ActionAllow: where a rule matches, the request is allowed.
//  6. Without a policy that allows, Options.Default decides; with some of which none
//     matches, Options.Unmatched.
//
// This is the order of Istio's AuthorizationPolicy. Linkerd's policies only
// allow: they are ActionAllow with the Server's access policy as the Mode.
//
// A Rule matches if one of its sources, one of its operations and all of its
// conditions match. Within a source or an operation the fields are combined with
// AND, the values of a field with OR, and a Not field matches if none of its values does.
//
// # Two stages
//
// DecideConnection knows addresses, ports and identities only. It answers
// NeedsRequest if the requests on the connection can have different decisions.
// DecideRequest then decides each request. Traffic that carries no
// requests which this mesh can read is judged by DecideConnection alone:
// Decision.Opaque turns NeedsRequest into a refusal, so that nothing gets past a
// rule on HTTP by not being HTTP.
//
// # Doubt
//
// What cannot be understood fails closed, and Compile returns a Problem for it: a
// rule that allows matches nothing, and a rule that denies (or asks) is judged
// without the field that is not understood, so that it matches more.
//
// Facts that can be read in more than one way are treated alike. A path has up to three
// readings: as sent, normalised, and normalised without parameters. A header that is repeated
// has one for each value, a method one for each case of letters. An authority that is malformed
// or empty may be any host. A rule that allows needs all readings to match; for a rule that denies
// one is enough.
package authz
