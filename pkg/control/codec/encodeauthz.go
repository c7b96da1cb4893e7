package codec

import (
	"net/netip"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/expression"
	"github.com/underlane/underlane/pkg/state"
)

// EncodeAuthz returns the resource with the policies of the workload with this UID. A
// Predicate has no encoding: the agent takes it for one that it does not understand.
func EncodeAuthz(uid string, s *authz.Spec) *pb.Resource {
	out := &pb.Authz{Uid: uid, TrustDomain: s.TrustDomain, Cluster: encodePrefixes(s.Cluster)}
	for i := range s.Groups {
		g := &s.Groups[i]
		to := &pb.AuthzGroup{
			Name: g.Name, Ports: each(g.Ports, encodeAuthzPorts), NotPorts: each(g.NotPorts, encodeAuthzPorts),
			Default: uint32(g.Default), Unmatched: uint32(g.Unmatched),
		}
		for j := range g.Policies {
			to.Policies = append(to.Policies, encodeAuthzPolicy(&g.Policies[j]))
		}
		to.Routed, to.Routes = g.Routed, each(g.Routes, encodeAuthzRoute)
		out.Groups = append(out.Groups, to)
	}
	out.RateLimits = each(s.RateLimits, encodeAuthzRateLimit)
	out.Limits = each(s.Limits, encodeAuthzLimit)
	out.Tokens = each(s.Tokens, encodeAuthzToken)
	for i := range s.Authorizers {
		a := &s.Authorizers[i]
		out.Authorizers = append(out.Authorizers, &pb.AuthzAuthorizer{Name: a.Name, Auth: encodeExternal(&a.ExternalAuth)})
	}
	return &pb.Resource{Name: state.AuthzName(uid), Content: &pb.Resource_Authz{Authz: out}}
}

// encodeAuthzRoute encodes a route without a match as one that the agent refuses.
func encodeAuthzRoute(r authz.Route) *pb.AuthzRoute {
	out := &pb.AuthzRoute{Name: r.Name}
	if r.Match != nil {
		out.Route = EncodeRoute(r.Match).GetRoute()
	}
	return out
}

func encodeAuthzRateLimit(l authz.RateLimit) *pb.AuthzRateLimit {
	return &pb.AuthzRateLimit{
		Policy: l.Policy, Ports: each(l.Ports, encodeAuthzPorts), Total: l.Total, Identity: l.Identity,
		Overrides: each(l.Overrides, func(o authz.RateOverride) *pb.AuthzRateOverride {
			return &pb.AuthzRateOverride{RequestsPerSecond: o.RequestsPerSecond, Clients: each(o.Clients, mesh.Identity.String)}
		}),
	}
}

func encodeAuthzPolicy(p *authz.Policy) *pb.AuthzPolicy {
	out := &pb.AuthzPolicy{
		Name: p.Name, Action: uint32(p.Action), Provider: p.Provider, Rehearse: p.Rehearse, Unknown: p.Unknown,
	}
	out.Rules = each(p.Rules, encodeAuthzRule)
	return out
}

func encodeAuthzRule(r authz.Rule) *pb.AuthzRule {
	return &pb.AuthzRule{
		Name: r.Name, Unknown: r.Unknown,
		From: each(r.From, encodeAuthzSource), To: each(r.To, encodeAuthzOperation), When: each(r.When, encodeAuthzCondition),
	}
}

func encodeAuthzSource(s authz.Source) *pb.AuthzSource {
	return &pb.AuthzSource{
		Principals: each(s.Principals, encodeAuthzMatch), NotPrincipals: each(s.NotPrincipals, encodeAuthzMatch),
		ServiceAccounts: each(s.ServiceAccounts, encodeAuthzAccount), NotServiceAccounts: each(s.NotServiceAccounts, encodeAuthzAccount),
		Namespaces: each(s.Namespaces, encodeAuthzMatch), NotNamespaces: each(s.NotNamespaces, encodeAuthzMatch),
		TrustDomains: each(s.TrustDomains, encodeAuthzMatch), NotTrustDomains: each(s.NotTrustDomains, encodeAuthzMatch),
		Networks: each(s.Networks, encodeAuthzNetwork), NotNetworks: each(s.NotNetworks, encodeAuthzNetwork),
		RequestPrincipals: each(s.RequestPrincipals, encodeAuthzMatch), NotRequestPrincipals: each(s.NotRequestPrincipals, encodeAuthzMatch),
		Authentication: uint32(s.Authentication),
	}
}

func encodeAuthzOperation(o authz.Operation) *pb.AuthzOperation {
	return &pb.AuthzOperation{
		Ports: each(o.Ports, encodeAuthzPorts), NotPorts: each(o.NotPorts, encodeAuthzPorts),
		Hosts: each(o.Hosts, encodeAuthzMatch), NotHosts: each(o.NotHosts, encodeAuthzMatch),
		Methods: each(o.Methods, encodeAuthzMatch), NotMethods: each(o.NotMethods, encodeAuthzMatch),
		Paths: each(o.Paths, encodeAuthzMatch), NotPaths: each(o.NotPaths, encodeAuthzMatch),
		Grpc: each(o.GRPC, encodeAuthzGRPC), NotGrpc: each(o.NotGRPC, encodeAuthzGRPC), Routes: o.Routes,
	}
}

func encodeAuthzCondition(c authz.Condition) *pb.AuthzCondition {
	out := &pb.AuthzCondition{
		Kind: uint32(c.Kind), Name: c.Name, Claim: c.Claim,
		Values: each(c.Values, encodeAuthzMatch), NotValues: each(c.NotValues, encodeAuthzMatch),
	}
	switch c.Kind {
	case authz.ConditionSource:
		out.Source = encodeAuthzSource(c.Source)
	case authz.ConditionOperation:
		out.Operation = encodeAuthzOperation(c.Operation)
	case authz.ConditionPredicate:
		if p, ok := c.Predicate.(*expression.Program); ok {
			out.Expression = p.Checked()
		}
	}
	return out
}

func encodeAuthzMatch(m authz.Match) *pb.AuthzMatch {
	return &pb.AuthzMatch{Kind: uint32(m.Kind), Value: m.Value}
}

func encodeAuthzAccount(a authz.ServiceAccount) *pb.AuthzAccount {
	return &pb.AuthzAccount{Namespace: a.Namespace, Name: a.Name}
}

func encodeAuthzGRPC(m authz.GRPCMethod) *pb.AuthzGRPC {
	return &pb.AuthzGRPC{Service: m.Service, Method: m.Method}
}

func encodeAuthzPorts(r authz.PortRange) *pb.PortRange {
	return &pb.PortRange{First: uint32(r.First), Last: uint32(r.Last)}
}

func encodeAuthzNetwork(n authz.Network) *pb.AuthzNetwork {
	return &pb.AuthzNetwork{Cidr: encodePrefix(n.CIDR), Except: encodePrefixes(n.Except)}
}

func encodePrefixes(all []netip.Prefix) []*pb.Range { return each(all, encodePrefix) }

// encodePrefix encodes a prefix that is not valid as one without an address, which
// decodePrefix refuses.
func encodePrefix(p netip.Prefix) *pb.Range {
	return &pb.Range{Addr: p.Addr().AsSlice(), Bits: uint32(p.Bits())}
}

// each converts the elements of a list.
func each[A, B any](list []A, convert func(A) B) []B {
	if len(list) == 0 {
		return nil
	}
	out := make([]B, len(list))
	for i := range list {
		out[i] = convert(list[i])
	}
	return out
}
