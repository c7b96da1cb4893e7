package codec

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/expression"
	"github.com/underlane/underlane/pkg/state"
)

// notKnown stands for fields of a newer controller in the Unknown lists.
const notKnown = "a field that this agent does not know"

// authzDecoder keeps the first error.
type authzDecoder struct{ err error }

// decodeAuthz decodes and compiles the policies of a workload. After an error the agent
// has no policies of the workload, and admits no client.
func decodeAuthz(in *pb.Authz) (*state.Authz, error) {
	d := &authzDecoder{}
	if in.GetUid() == "" {
		return nil, errors.New("policies without the UID of a workload")
	}
	spec := &authz.Spec{TrustDomain: in.GetTrustDomain(), Cluster: each(in.GetCluster(), d.prefix)}
	if len(in.ProtoReflect().GetUnknown()) > 0 {
		return nil, errors.New(notKnown)
	}
	for _, g := range in.GetGroups() {
		if len(g.ProtoReflect().GetUnknown()) > 0 {
			return nil, fmt.Errorf("policies of %q: %s", g.GetName(), notKnown)
		}
		spec.Groups = append(spec.Groups, authz.Group{
			Name: g.GetName(), Ports: each(g.GetPorts(), d.ports), NotPorts: each(g.GetNotPorts(), d.ports),
			Default: authz.Mode(small(g.GetDefault())), Unmatched: authz.Mode(small(g.GetUnmatched())),
			Policies: each(g.GetPolicies(), d.policy),
			Routed:   g.GetRouted(), Routes: each(g.GetRoutes(), d.route),
		})
	}
	spec.RateLimits = each(in.GetRateLimits(), d.rateLimit)
	spec.Limits = each(in.GetLimits(), d.limit)
	spec.Tokens = each(in.GetTokens(), d.token)
	spec.Authorizers = each(in.GetAuthorizers(), d.authorizer)
	if d.err != nil {
		return nil, d.err
	}
	rules, _ := authz.CompileWorkload(spec)
	return &state.Authz{UID: in.GetUid(), Rules: rules}, nil
}

func (d *authzDecoder) route(r *pb.AuthzRoute) authz.Route {
	if r.GetRoute() == nil || hasUnknown(r.ProtoReflect()) {
		d.fail(fmt.Errorf("route %q: %s", r.GetName(), notKnown))
		return authz.Route{}
	}
	match, err := decodeRoute(r.GetRoute())
	if err != nil {
		d.fail(fmt.Errorf("route %q: %w", r.GetName(), err))
	}
	return authz.Route{Name: r.GetName(), Match: match}
}

func (d *authzDecoder) rateLimit(l *pb.AuthzRateLimit) authz.RateLimit {
	if hasUnknown(l.ProtoReflect()) {
		d.fail(fmt.Errorf("rate limit of %s: %s", l.GetPolicy(), notKnown))
	}
	return authz.RateLimit{
		Policy: l.GetPolicy(), Ports: each(l.GetPorts(), d.ports), Total: l.GetTotal(), Identity: l.GetIdentity(),
		Overrides: each(l.GetOverrides(), func(o *pb.AuthzRateOverride) authz.RateOverride {
			return authz.RateOverride{RequestsPerSecond: o.GetRequestsPerSecond(), Clients: each(o.GetClients(), d.identity)}
		}),
	}
}

func (d *authzDecoder) identity(s string) mesh.Identity {
	id, err := mesh.ParseIdentity(s)
	if err != nil {
		d.fail(err)
	}
	return id
}

// small returns the number of a value that is not known for what does not fit.
func small(n uint32) uint8 { return uint8(min(n, math.MaxUint8)) }

func (d *authzDecoder) policy(p *pb.AuthzPolicy) authz.Policy {
	out := authz.Policy{
		Name: p.GetName(), Action: authz.Action(small(p.GetAction())), Provider: p.GetProvider(), Rehearse: p.GetRehearse(),
		Unknown: p.GetUnknown(), Rules: each(p.GetRules(), d.rule),
	}
	if len(p.ProtoReflect().GetUnknown()) > 0 {
		out.Unknown = append(out.Unknown, notKnown)
	}
	return out
}

func (d *authzDecoder) rule(r *pb.AuthzRule) authz.Rule {
	out := authz.Rule{
		Name: r.GetName(), Unknown: r.GetUnknown(),
		From: each(r.GetFrom(), d.source), To: each(r.GetTo(), d.operation), When: each(r.GetWhen(), d.condition),
	}
	if hasUnknown(r.ProtoReflect()) {
		out.Unknown = append(out.Unknown, notKnown)
	}
	return out
}

// hasUnknown reports whether m, or a message in it, has fields that are not known.
func hasUnknown(m protoreflect.Message) bool {
	found := len(m.GetUnknown()) > 0
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() != protoreflect.MessageKind:
		case f.IsList():
			for i := range v.List().Len() {
				found = found || hasUnknown(v.List().Get(i).Message())
			}
		default:
			found = found || hasUnknown(v.Message())
		}
		return !found
	})
	return found
}

func (d *authzDecoder) source(s *pb.AuthzSource) authz.Source {
	return authz.Source{
		Principals: each(s.GetPrincipals(), authzMatch), NotPrincipals: each(s.GetNotPrincipals(), authzMatch),
		ServiceAccounts: each(s.GetServiceAccounts(), authzAccount), NotServiceAccounts: each(s.GetNotServiceAccounts(), authzAccount),
		Namespaces: each(s.GetNamespaces(), authzMatch), NotNamespaces: each(s.GetNotNamespaces(), authzMatch),
		TrustDomains: each(s.GetTrustDomains(), authzMatch), NotTrustDomains: each(s.GetNotTrustDomains(), authzMatch),
		Networks: each(s.GetNetworks(), d.network), NotNetworks: each(s.GetNotNetworks(), d.network),
		RequestPrincipals: each(s.GetRequestPrincipals(), authzMatch), NotRequestPrincipals: each(s.GetNotRequestPrincipals(), authzMatch),
		Authentication: authz.Authentication(small(s.GetAuthentication())),
	}
}

func (d *authzDecoder) operation(o *pb.AuthzOperation) authz.Operation {
	return authz.Operation{
		Ports: each(o.GetPorts(), d.ports), NotPorts: each(o.GetNotPorts(), d.ports),
		Hosts: each(o.GetHosts(), authzMatch), NotHosts: each(o.GetNotHosts(), authzMatch),
		Methods: each(o.GetMethods(), authzMatch), NotMethods: each(o.GetNotMethods(), authzMatch),
		Paths: each(o.GetPaths(), authzMatch), NotPaths: each(o.GetNotPaths(), authzMatch),
		GRPC: each(o.GetGrpc(), authzGRPC), NotGRPC: each(o.GetNotGrpc(), authzGRPC), Routes: o.GetRoutes(),
	}
}

func (d *authzDecoder) condition(c *pb.AuthzCondition) authz.Condition {
	out := authz.Condition{
		Kind: authz.ConditionKind(small(c.GetKind())), Name: c.GetName(), Claim: c.GetClaim(),
		Values: each(c.GetValues(), authzMatch), NotValues: each(c.GetNotValues(), authzMatch),
	}
	switch {
	case out.Kind == authz.ConditionSource && c.GetSource() != nil:
		out.Source = d.source(c.GetSource())
	case out.Kind == authz.ConditionOperation && c.GetOperation() != nil:
		out.Operation = d.operation(c.GetOperation())
	case out.Kind == authz.ConditionSource, out.Kind == authz.ConditionOperation:
		out.Kind = authz.ConditionUnknown // an empty one would match everything
	case out.Kind == authz.ConditionPredicate:
		// Without a Predicate the rule fails closed.
		if p, err := expression.New(c.GetExpression()); err == nil {
			out.Predicate = p
		}
	}
	return out
}

func authzMatch(m *pb.AuthzMatch) authz.Match {
	return authz.Match{Kind: authz.MatchKind(small(m.GetKind())), Value: m.GetValue()}
}

func authzAccount(a *pb.AuthzAccount) authz.ServiceAccount {
	return authz.ServiceAccount{Namespace: a.GetNamespace(), Name: a.GetName()}
}

func authzGRPC(m *pb.AuthzGRPC) authz.GRPCMethod {
	return authz.GRPCMethod{Service: m.GetService(), Method: m.GetMethod()}
}

func (d *authzDecoder) ports(r *pb.PortRange) authz.PortRange {
	if r.GetLast() > math.MaxUint16 || r.GetFirst() > r.GetLast() {
		d.fail(fmt.Errorf("%d-%d is not a range of ports", r.GetFirst(), r.GetLast()))
		return authz.PortRange{}
	}
	return authz.PortRange{First: uint16(r.GetFirst()), Last: uint16(r.GetLast())}
}

func (d *authzDecoder) network(n *pb.AuthzNetwork) authz.Network {
	return authz.Network{CIDR: d.prefix(n.GetCidr()), Except: each(n.GetExcept(), d.prefix)}
}

func (d *authzDecoder) prefix(r *pb.Range) netip.Prefix {
	addr, err := DecodeAddr(r.GetAddr())
	if err == nil && r.GetBits() > uint32(addr.BitLen()) {
		err = fmt.Errorf("range %s/%d: too many bits", addr, r.GetBits())
	}
	if err != nil {
		d.fail(err)
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addr, int(r.GetBits()))
}

func (d *authzDecoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}
