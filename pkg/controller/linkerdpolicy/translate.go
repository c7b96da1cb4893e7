package linkerdpolicy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/policy/authz"
)

const gatewayGroup = "gateway.networking.k8s.io"

// RouteName is the name under which a route is known to the engine
// (authz.Request.Route). Routes and policies that target them are of the
// Server's namespace.
func RouteName(group, kind, name string) string {
	return strings.ToLower(kind) + "." + strings.ToLower(group) + "/" + name
}

// ForServer returns the policies that apply to a Server, and its access policy
// as the Mode of both authz.Options.Default and authz.Options.Unmatched.
func (o *Objects) ForServer(s *Server) ([]authz.Policy, authz.Mode, []authz.Problem) {
	var out []authz.Policy
	var problems []authz.Problem
	for _, i := range o.places().policies[s.Namespace] {
		p := &o.Policies[i]
		title := "AuthorizationPolicy." + Group + " " + p.Namespace + "/" + p.Name
		to, applies, err := target(p, s)
		if err != nil { // it allows nothing, wherever it should
			problems = append(problems, authz.Problem{Policy: title, Field: "spec.targetRef", Text: err.Error()})
		}
		if !applies {
			continue
		}
		policy := authz.Policy{Name: title, Action: authz.ActionAllow, Unknown: p.Unknown}
		from, err := o.sources(p)
		if err != nil {
			// As with Linkerd, the policy allows nothing.
			problems = append(problems, authz.Problem{Policy: title, Field: "spec.requiredAuthenticationRefs", Text: err.Error()})
		} else {
			policy.Rules = []authz.Rule{{From: from, To: to}}
		}
		out = append(out, policy)
	}
	older, more := o.olderFor(s)
	out, problems = append(out, older...), append(problems, more...)
	mode := authz.ModeDeny
	if s.Spec.AccessPolicy != "" {
		var err error
		if mode, err = authz.ParseMode(s.Spec.AccessPolicy); err != nil {
			problems = append(problems, authz.Problem{Policy: serverName(s), Field: "spec.accessPolicy", Text: err.Error()})
		}
	}
	for _, field := range s.Unknown {
		mode = authz.ModeDeny
		problems = append(problems, authz.Problem{Policy: serverName(s), Field: field, Text: "is not known: the access policy is deny"})
	}
	return out, mode, problems
}

func serverName(s *Server) string { return "Server." + Group + " " + s.Namespace + "/" + s.Name }

// target returns what of the Server's traffic a policy is about, and whether it is
// about any of it.
func target(p *AuthorizationPolicy, s *Server) (to []authz.Operation, applies bool, err error) {
	ref := p.Spec.TargetRef
	switch {
	case ref.Name == "":
		return nil, false, errors.New("it has no name")
	case ref.is(Group, "Server"):
		return nil, ref.Name == s.Name, nil
	case ref.is("", "Namespace"):
		return nil, ref.Name == s.Namespace, nil
	case ref.is(Group, "HTTPRoute"), ref.is(gatewayGroup, "HTTPRoute"), ref.is(gatewayGroup, "GRPCRoute"):
		return []authz.Operation{{Routes: []string{RouteName(ref.Group, ref.Kind, ref.Name)}}}, true, nil
	}
	return nil, false, fmt.Errorf("%v: the kind is not known", ref)
}

// sources returns the clients for whom all references of a policy hold. Without
// references these are all.
func (o *Objects) sources(p *AuthorizationPolicy) ([]authz.Source, error) {
	var identities []authz.Source
	var networks []authz.Network
	if p.Spec.RequiredAuthenticationRefs == nil {
		return nil, errors.New("it is missing") // an API server does not accept that; as an empty list it would let everybody in
	}
	for _, ref := range p.Spec.RequiredAuthenticationRefs {
		if ref.Namespace == "" {
			ref.Namespace = p.Namespace
		}
		switch {
		case ref.is(Group, "MeshTLSAuthentication"), ref.is("", "ServiceAccount"):
			if identities != nil {
				return nil, errors.New("there is more than one MeshTLSAuthentication or ServiceAccount")
			}
			if ref.is("", "ServiceAccount") {
				identities = []authz.Source{account(ref.Namespace, ref.Name)}
				break
			}
			i, ok := o.places().tls[name{ref.Namespace, ref.Name}]
			if !ok {
				return nil, fmt.Errorf("%v does not exist", ref)
			}
			var err error
			if identities, err = o.MeshTLS[i].sources(); err != nil {
				return nil, fmt.Errorf("%v: %w", ref, err)
			}
		case ref.is(Group, "NetworkAuthentication"):
			if networks != nil {
				return nil, errors.New("there is more than one NetworkAuthentication")
			}
			i, ok := o.places().networks[name{ref.Namespace, ref.Name}]
			if !ok {
				return nil, fmt.Errorf("%v does not exist", ref)
			}
			var err error
			if networks, err = o.Networks[i].networks(); err != nil {
				return nil, fmt.Errorf("%v: %w", ref, err)
			}
		default:
			return nil, fmt.Errorf("%v: the kind is not known", ref)
		}
	}
	if identities == nil && networks != nil {
		identities = []authz.Source{{}}
	}
	for i := range identities {
		identities[i].Networks = networks
	}
	return identities, nil
}

func account(namespace, name string) authz.Source {
	return authz.Source{ServiceAccounts: []authz.ServiceAccount{{Namespace: namespace, Name: name}}}
}

func (a *MeshTLSAuthentication) sources() ([]authz.Source, error) {
	if len(a.Unknown) > 0 {
		return nil, errors.New(a.Unknown[0] + " is not known")
	}
	var out []authz.Source
	for _, id := range a.Spec.Identities {
		s, err := identity(id)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	for _, ref := range a.Spec.IdentityRefs {
		switch {
		case ref.is("", "ServiceAccount"):
			if ref.Namespace == "" {
				ref.Namespace = a.Namespace
			}
			out = append(out, account(ref.Namespace, ref.Name))
		case ref.is("", "Namespace"):
			out = append(out, account(ref.Name, "*"))
		default:
			return nil, fmt.Errorf("%v: the kind is not known", ref)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("it has no identities")
	}
	return out, nil
}

// identity translates an identity in Linkerd's form, which is that of a DNS name:
// ACCOUNT.NAMESPACE.serviceaccount.identity.CONTROL-PLANE.TRUST-DOMAIN. A part in front
// may be replaced by *. The mesh's own form is that of SPIFFE.
func identity(id string) (authz.Source, error) {
	principal := func(kind authz.MatchKind, value string) authz.Source {
		return authz.Source{Principals: []authz.Match{{Kind: kind, Value: value}}}
	}
	before, after, ok := strings.Cut(id, ".serviceaccount.identity.")
	_, domain, named := strings.Cut(after, ".")
	who := strings.Split(before, ".")
	switch {
	case id == "*":
		return authz.Source{Authentication: authz.Authenticated}, nil
	case strings.HasPrefix(id, "spiffe://") && !strings.Contains(id, "*"):
		return principal(authz.Exact, id), nil
	case !ok || !named || domain == "" || slices.Contains(who, "") || strings.Contains(after, "*"):
	case before == "*":
		return authz.Source{TrustDomains: []authz.Match{{Value: domain}}}, nil
	case len(who) == 2 && who[0] == "*" && who[1] != "*":
		return principal(authz.Prefix, "spiffe://"+domain+"/ns/"+who[1]+"/sa/"), nil
	case len(who) == 2 && !strings.Contains(before, "*"):
		return principal(authz.Exact, "spiffe://"+domain+"/ns/"+who[1]+"/sa/"+who[0]), nil
	}
	return authz.Source{}, fmt.Errorf("identity %q: want *, a SPIFFE ID, or ACCOUNT.NAMESPACE.serviceaccount.identity.CONTROL-PLANE.TRUST-DOMAIN", id)
}

func (a *NetworkAuthentication) networks() ([]authz.Network, error) {
	if len(a.Unknown) > 0 {
		return nil, errors.New(a.Unknown[0] + " is not known")
	}
	out, err := readNetworks(a.Spec.Networks)
	if err == nil && len(out) == 0 {
		err = errors.New("it has no networks")
	}
	return out, err
}

func readNetworks(all []Network) ([]authz.Network, error) {
	var out []authz.Network
	for _, n := range all {
		cidr, err := network(n.CIDR)
		if err != nil {
			return nil, err
		}
		to := authz.Network{CIDR: cidr}
		for _, e := range n.Except {
			except, err := network(e)
			if err != nil {
				return nil, err
			}
			to.Except = append(to.Except, except)
		}
		out = append(out, to)
	}
	return out, nil
}

// network reads a CIDR or an address.
func network(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("network %q: want a CIDR or an address", s)
	}
	return p, nil
}
