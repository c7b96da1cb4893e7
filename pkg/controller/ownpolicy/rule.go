package ownpolicy

import (
	"fmt"
	"net/netip"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/expressions"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Bounds. The CustomResourceDefinition has smaller ones; objects of a directory are not
// validated.
const (
	maxList  = 512
	maxRegex = 4096 // bytes

	maxExpressions = 16 // of a policy: each request may have to be judged by all
)

// rule translates one rule.
type rule struct {
	namespace string
	level     v1alpha1.EnforcementLevel
	// expressions is how many more the policy may have.
	expressions *int
	out         authz.Rule
}

func (t *rule) unknown(format string, args ...any) {
	t.out.Unknown = append(t.out.Unknown, fmt.Sprintf(format, args...))
}

func (t *rule) translate(in *v1alpha1.AuthorizationRule) {
	t.out.Name = in.Name
	if in.Sources != nil {
		t.sources(in.Sources)
	}
	var to authz.Operation
	if n := in.NetworkAttributes; n != nil {
		to.Ports = t.ports("networkAttributes.ports", n.Ports)
	}
	if a := in.Authorization; a != nil {
		t.attributes(a, &to)
	}
	t.out.To = []authz.Operation{to}
}

// nobody matches no client: an empty list of sources.
var nobody = authz.Source{
	Networks:    []authz.Network{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}},
	NotNetworks: []authz.Network{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}},
}

func (t *rule) sources(in []v1alpha1.AuthorizationSource) {
	if len(in) == 0 {
		t.out.From = []authz.Source{nobody}
	}
	if len(in) > maxList {
		t.unknown("sources: with more than %d elements", maxList)
		t.out.From = nil // where a match refuses, any client matches
		return
	}
	for i := range in {
		s, err := t.source(&in[i])
		if err != nil {
			t.unknown("sources[%d]: %v", i, err)
			t.out.From = nil
			return
		}
		t.out.From = append(t.out.From, s)
	}
}

func (t *rule) source(in *v1alpha1.AuthorizationSource) (authz.Source, error) {
	switch {
	case in.Type == v1alpha1.SourceServiceAccount && in.ServiceAccount != nil && in.SPIFFE == nil:
		a := authz.ServiceAccount{Namespace: t.namespace, Name: in.ServiceAccount.Name}
		if in.ServiceAccount.Namespace != nil {
			a.Namespace = string(*in.ServiceAccount.Namespace)
		}
		return authz.Source{ServiceAccounts: []authz.ServiceAccount{a}}, nil
	case in.Type == v1alpha1.SourceSPIFFE && in.SPIFFE != nil && in.ServiceAccount == nil:
		id := *in.SPIFFE
		if domain, path, ok := strings.Cut(strings.TrimPrefix(id, "spiffe://"), "/"); !strings.HasPrefix(id, "spiffe://") ||
			domain == "" || !ok || path == "" || strings.ContainsAny(id, "*?#%@ ") {
			return authz.Source{}, fmt.Errorf("SPIFFE ID %q, want spiffe://TRUST-DOMAIN/PATH", id)
		}
		return authz.Source{Principals: []authz.Match{{Value: id}}}, nil
	}
	return authz.Source{}, fmt.Errorf("type %q: want ServiceAccount or SPIFFE, and the field of that type alone", in.Type)
}

func (t *rule) ports(field string, in []gatewayv1.PortNumber) (out []authz.PortRange) {
	if len(in) > maxList {
		t.unknown("%s: with more than %d elements", field, maxList)
		return nil
	}
	for _, p := range in {
		if p < 1 || p > 65535 {
			t.unknown("%s: %d", field, p)
			return nil
		}
		out = append(out, authz.Port(uint16(p)))
	}
	return out
}

var methods = map[gatewayv1.HTTPMethod]bool{
	"GET": true, "HEAD": true, "POST": true, "PUT": true, "DELETE": true, "CONNECT": true, "OPTIONS": true, "TRACE": true, "PATCH": true,
}

// attributes translates what is said of requests. A field that is not understood is left out
// as a whole, which is wider, and the rule does not allow.
func (t *rule) attributes(in *v1alpha1.AuthorizationAttributes, to *authz.Operation) {
	if t.level != v1alpha1.EnforcementApplication {
		t.unknown("authorization, with the enforcement level %q,", t.level)
	}
	switch in.Type {
	case v1alpha1.AuthorizationInline:
		if in.CEL != nil {
			t.unknown("authorization.cel, with the type Inline,")
		}
	case v1alpha1.AuthorizationCEL:
		t.expression(in)
	default:
		t.unknown("authorization.type %q", in.Type)
	}
	for field, n := range map[string]int{
		"methods": len(in.Methods), "paths": len(in.Paths), "headers": len(in.Headers), "hosts": len(in.Hosts),
	} {
		if n > maxList {
			t.unknown("authorization.%s: with more than %d elements", field, maxList)
			return
		}
	}
	if ports := t.ports("authorization.ports", in.Ports); to.Ports == nil {
		to.Ports = ports
	} else if ports != nil { // both have to match
		t.out.When = append(t.out.When, authz.Condition{Kind: authz.ConditionOperation, Operation: authz.Operation{Ports: ports}})
	}
	for _, m := range in.Methods {
		if !methods[m] {
			t.unknown("authorization.methods: %q", m)
			to.Methods = nil
			break
		}
		to.Methods = append(to.Methods, authz.Match{Value: string(m)})
	}
	for i := range in.Paths {
		all, err := pathMatches(&in.Paths[i])
		if err != nil {
			t.unknown("authorization.paths[%d]: %v", i, err)
			to.Paths = nil
			break
		}
		to.Paths = append(to.Paths, all...)
	}
	for _, h := range in.Hosts {
		m, err := hostMatch(string(h))
		if err != nil {
			t.unknown("authorization.hosts: %v", err)
			to.Hosts = nil
			break
		}
		to.Hosts = append(to.Hosts, m)
	}
	for i := range in.Headers {
		if c, err := headerMatch(&in.Headers[i]); err != nil {
			t.unknown("authorization.headers[%d]: %v", i, err)
		} else {
			t.out.When = append(t.out.When, c)
		}
	}
}

// expression translates a condition in CEL.
func (t *rule) expression(in *v1alpha1.AuthorizationAttributes) {
	if len(in.Methods)+len(in.Paths)+len(in.Headers)+len(in.Hosts)+len(in.Ports) > 0 {
		t.unknown("authorization: another field than cel, with the type CEL,")
	}
	if in.CEL == nil {
		t.unknown("authorization.type CEL without cel")
		return
	}
	c := authz.Condition{Kind: authz.ConditionPredicate}
	if *t.expressions--; *t.expressions < 0 {
		c.Name = fmt.Sprintf("the policy has more than %d", maxExpressions)
	} else if program, err := expressions.Check(in.CEL.Expression); err != nil {
		c.Name = err.Error()
	} else {
		c.Predicate = program
	}
	t.out.When = append(t.out.When, c)
}

// pathMatches translates a path. PathPrefix compares whole segments, and with or without
// a slash at its end it is the same (Gateway API, HTTPPathMatch).
func pathMatches(in *gatewayv1.HTTPPathMatch) ([]authz.Match, error) {
	kind, value := gatewayv1.PathMatchPathPrefix, "/"
	if in.Type != nil {
		kind = *in.Type
	}
	if in.Value != nil && *in.Value != "" {
		value = *in.Value
	}
	switch kind {
	case gatewayv1.PathMatchExact:
		return []authz.Match{{Value: value}}, nil
	case gatewayv1.PathMatchPathPrefix:
		if value = strings.TrimSuffix(value, "/"); value == "" {
			return []authz.Match{{Kind: authz.Prefix, Value: "/"}}, nil
		}
		return []authz.Match{{Value: value}, {Kind: authz.Prefix, Value: value + "/"}}, nil
	case gatewayv1.PathMatchRegularExpression:
		return regex(value)
	}
	return nil, fmt.Errorf("type %q", kind)
}

func regex(value string) ([]authz.Match, error) {
	if len(value) > maxRegex {
		return nil, fmt.Errorf("a regular expression of more than %d bytes", maxRegex)
	}
	return []authz.Match{{Kind: authz.Regex, Value: value}}, nil
}

// hostMatch translates a host, *.example.com to the names below example.com.
func hostMatch(host string) (authz.Match, error) {
	name, below := strings.CutPrefix(host, "*.")
	if name == "" || strings.ContainsAny(name, "*:/") {
		return authz.Match{}, fmt.Errorf("%q, want a name or *.NAME", host)
	}
	if below {
		return authz.Match{Kind: authz.Suffix, Value: "." + name}, nil
	}
	return authz.Match{Value: name}, nil
}

func headerMatch(in *gatewayv1.HTTPHeaderMatch) (authz.Condition, error) {
	c := authz.Condition{Kind: authz.ConditionHeader, Name: lower(string(in.Name)), Values: []authz.Match{{Value: in.Value}}}
	if in.Value == "" {
		return c, fmt.Errorf("header %q has no value", in.Name)
	}
	if in.Type == nil || *in.Type == gatewayv1.HeaderMatchExact {
		return c, nil
	}
	if *in.Type != gatewayv1.HeaderMatchRegularExpression {
		return c, fmt.Errorf("type %q", *in.Type)
	}
	var err error
	c.Values, err = regex(in.Value)
	return c, err
}

// lower changes letters of ASCII only: names of header fields have no others.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
