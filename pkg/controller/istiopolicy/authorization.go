package istiopolicy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

type authorizationSpec struct {
	Selector   *selector   `json:"selector"`
	TargetRef  *targetRef  `json:"targetRef"`
	TargetRefs []targetRef `json:"targetRefs"`
	Rules      []ruleSpec  `json:"rules"`
	Action     string      `json:"action"`
	Provider   *struct {
		Name string `json:"name"`
	} `json:"provider"`
}

type ruleSpec struct {
	From []struct {
		Source *sourceSpec `json:"source"`
	} `json:"from"`
	To []struct {
		Operation *operationSpec `json:"operation"`
	} `json:"to"`
	When []conditionSpec `json:"when"`
}

type sourceSpec struct {
	Principals           []string `json:"principals"`
	NotPrincipals        []string `json:"notPrincipals"`
	RequestPrincipals    []string `json:"requestPrincipals"`
	NotRequestPrincipals []string `json:"notRequestPrincipals"`
	Namespaces           []string `json:"namespaces"`
	NotNamespaces        []string `json:"notNamespaces"`
	ServiceAccounts      []string `json:"serviceAccounts"`
	NotServiceAccounts   []string `json:"notServiceAccounts"`
	IPBlocks             []string `json:"ipBlocks"`
	NotIPBlocks          []string `json:"notIpBlocks"`
	RemoteIPBlocks       []string `json:"remoteIpBlocks"`
	NotRemoteIPBlocks    []string `json:"notRemoteIpBlocks"`
	TrustDomains         []string `json:"trustDomains"`
	NotTrustDomains      []string `json:"notTrustDomains"`
}

type operationSpec struct {
	Hosts      []string `json:"hosts"`
	NotHosts   []string `json:"notHosts"`
	Ports      []string `json:"ports"`
	NotPorts   []string `json:"notPorts"`
	Methods    []string `json:"methods"`
	NotMethods []string `json:"notMethods"`
	Paths      []string `json:"paths"`
	NotPaths   []string `json:"notPaths"`
}

type conditionSpec struct {
	Key       string   `json:"key"`
	Values    []string `json:"values"`
	NotValues []string `json:"notValues"`
}

// Bounds. Istio has the first two. A rule is compiled to each pair of a source and an
// operation.
const (
	maxRules = 512
	maxFrom  = 512
	maxPairs = 16_384 // of a policy
)

// authorization is an AuthorizationPolicy, translated. Conditions on the workload's own
// address are judged for each workload.
type authorization struct {
	out       authz.Policy
	addresses map[int][]addressCondition // by the index of the rule
}

type addressCondition struct{ in, notIn []authz.Network }

var actions = map[string]authz.Action{
	"": authz.ActionAllow, "ALLOW": authz.ActionAllow, "DENY": authz.ActionDeny, "AUDIT": authz.ActionAudit, "CUSTOM": authz.ActionExternal,
}

func (o *Object) readAuthorization(object []byte, m *Mesh) {
	spec, unknown := policyobject.Read[authorizationSpec](object)
	a := &authorization{out: authz.Policy{Name: o.String(), Action: actions[spec.Action], Unknown: unknown.Object}}
	o.authorization = a
	a.out.Unknown = append(a.out.Unknown, o.readScope(spec.Selector, spec.TargetRef, spec.TargetRefs)...)
	o.widen(&unknown)
	a.out.Rehearse, _ = strconv.ParseBool(o.Annotations[AnnotationDryRun])
	if spec.Provider != nil {
		a.out.Provider = spec.Provider.Name
		if a.out.Action != authz.ActionExternal {
			a.out.Unknown = append(a.out.Unknown, "spec.provider without the action CUSTOM")
		}
	}
	pairs := 0
	for i := range spec.Rules {
		r := &spec.Rules[i]
		pairs += max(1, len(r.From)) * max(1, len(r.To))
		if i >= maxRules || len(r.From) > maxFrom || pairs > maxPairs {
			a.out.Unknown = append(a.out.Unknown, fmt.Sprintf("spec.rules: with more than %d elements, %d sources or %d pairs of a source and an operation", maxRules, maxFrom, maxPairs))
			break
		}
		t := translation{mesh: m, namespace: o.Namespace, wide: a.out.Action != authz.ActionAllow && a.out.Action != authz.ActionAudit}
		t.out.Unknown = unknown.Rules[i]
		t.rule(r)
		a.out.Rules = append(a.out.Rules, t.out)
		if t.addresses != nil {
			if a.addresses == nil {
				a.addresses = map[int][]addressCondition{}
			}
			a.addresses[i] = t.addresses
		}
	}
	var problems []authz.Problem
	o.Requests, problems = authz.Check(&a.out, m.TrustDomain)
	o.Problems = append(o.Problems, problems...)
}

// policy returns the policy for a workload.
func (a *authorization) policy(w *Workload) authz.Policy {
	if len(a.addresses) == 0 {
		return a.out
	}
	out := a.out
	out.Rules = slices.Clone(out.Rules)
	for i, conditions := range a.addresses {
		r := &out.Rules[i]
		for _, c := range conditions {
			yes := 0
			for _, addr := range w.Addresses {
				if (len(c.in) == 0 || contains(c.in, addr)) && !contains(c.notIn, addr) {
					yes++
				}
			}
			switch {
			case len(w.Addresses) == 0 || yes > 0 && yes < len(w.Addresses):
				// Which of its addresses the client has called is not known.
				r.Unknown = append(slices.Clone(r.Unknown), "destination.ip of a workload with several addresses or none")
			case yes == 0:
				r.When = append(slices.Clone(r.When), authz.Condition{Kind: authz.ConditionSource, Source: nobody})
			}
		}
	}
	return out
}

// nobody matches no client.
var nobody = authz.Source{
	Networks:    []authz.Network{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}},
	NotNetworks: []authz.Network{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}},
}

func contains(networks []authz.Network, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n authz.Network) bool { return n.CIDR.Contains(a.Unmap()) })
}

// translation translates one rule. What is not understood is left out, which is wider, and
// named in out.Unknown, so that the rule does not allow.
type translation struct {
	mesh      *Mesh
	namespace string
	wide      bool // a doubt counts as a match
	out       authz.Rule
	addresses []addressCondition
}

func (t *translation) unknown(format string, args ...any) {
	t.out.Unknown = append(t.out.Unknown, fmt.Sprintf(format, args...))
}

func (t *translation) rule(r *ruleSpec) {
	for i := range r.From {
		var s authz.Source
		if from := r.From[i].Source; from == nil {
			t.unknown("from[%d] without a source", i)
		} else {
			s = t.source(fmt.Sprintf("from[%d].source.", i), from)
		}
		t.out.From = append(t.out.From, s)
	}
	for i := range r.To {
		var to authz.Operation
		if op := r.To[i].Operation; op == nil {
			t.unknown("to[%d] without an operation", i)
		} else {
			to = t.operation(fmt.Sprintf("to[%d].operation.", i), op)
		}
		t.out.To = append(t.out.To, to)
	}
	for i := range r.When {
		t.condition(fmt.Sprintf("when[%d] ", i), &r.When[i])
	}
}

func (t *translation) source(field string, in *sourceSpec) authz.Source {
	if len(in.RemoteIPBlocks)+len(in.NotRemoteIPBlocks) > 0 {
		t.unknown("%sremoteIpBlocks", field) // the address that a proxy in front has reported
	}
	out := authz.Source{
		Principals:           t.each(field+"principals", in.Principals, t.principal),
		NotPrincipals:        t.each(field+"notPrincipals", in.NotPrincipals, t.principal),
		RequestPrincipals:    t.each(field+"requestPrincipals", in.RequestPrincipals, plain),
		NotRequestPrincipals: t.each(field+"notRequestPrincipals", in.NotRequestPrincipals, plain),
		Namespaces:           t.each(field+"namespaces", in.Namespaces, namespace),
		NotNamespaces:        t.each(field+"notNamespaces", in.NotNamespaces, namespace),
		TrustDomains:         t.each(field+"trustDomains", in.TrustDomains, plain),
		NotTrustDomains:      t.each(field+"notTrustDomains", in.NotTrustDomains, plain),
		Networks:             t.networks(field+"ipBlocks", in.IPBlocks),
		NotNetworks:          t.networks(field+"notIpBlocks", in.NotIPBlocks),
	}
	accounts := t.each(field+"serviceAccounts", in.ServiceAccounts, t.account)
	not := t.each(field+"notServiceAccounts", in.NotServiceAccounts, t.account)
	if len(in.ServiceAccounts)+len(in.NotServiceAccounts) > 0 {
		if len(in.Principals)+len(in.NotPrincipals)+len(in.Namespaces)+len(in.NotNamespaces) > 0 {
			t.unknown("%sserviceAccounts beside principals or namespaces", field)
		} else {
			out.Principals, out.NotPrincipals = accounts, not
		}
	}
	return out
}

func (t *translation) operation(field string, in *operationSpec) authz.Operation {
	return authz.Operation{
		Hosts:      t.each(field+"hosts", in.Hosts, t.host(false)),
		NotHosts:   t.each(field+"notHosts", in.NotHosts, t.host(true)),
		Ports:      t.ports(field+"ports", in.Ports),
		NotPorts:   t.ports(field+"notPorts", in.NotPorts),
		Methods:    t.each(field+"methods", in.Methods, plain),
		NotMethods: t.each(field+"notMethods", in.NotMethods, plain),
		Paths:      t.each(field+"paths", in.Paths, path),
		NotPaths:   t.each(field+"notPaths", in.NotPaths, path),
	}
}

func (t *translation) condition(field string, in *conditionSpec) {
	field += in.Key
	if len(in.Values)+len(in.NotValues) == 0 {
		t.unknown("%s without values", field)
		return
	}
	source := func(s authz.Source) {
		t.out.When = append(t.out.When, authz.Condition{Kind: authz.ConditionSource, Source: s})
	}
	matches := func(c authz.Condition, values, not func(string) ([]authz.Match, error)) {
		c.Values, c.NotValues = t.each(field, in.Values, values), t.each(field, in.NotValues, not)
		if len(c.Values)+len(c.NotValues) > 0 { // otherwise it is not understood
			t.out.When = append(t.out.When, c)
		}
	}
	claim := func(name ...string) {
		matches(authz.Condition{Kind: authz.ConditionClaim, Claim: name}, plain, plain)
	}
	name, inBrackets := strings.CutPrefix(in.Key, "request.headers")
	claims, ofToken := strings.CutPrefix(in.Key, "request.auth.claims")
	switch {
	case in.Key == "source.ip":
		source(authz.Source{Networks: t.networks(field, in.Values), NotNetworks: t.networks(field, in.NotValues)})
	case in.Key == "source.namespace":
		source(authz.Source{Namespaces: t.each(field, in.Values, namespace), NotNamespaces: t.each(field, in.NotValues, namespace)})
	case in.Key == "source.principal":
		source(authz.Source{Principals: t.each(field, in.Values, t.principal), NotPrincipals: t.each(field, in.NotValues, t.principal)})
	case in.Key == "request.auth.principal":
		source(authz.Source{RequestPrincipals: t.each(field, in.Values, plain), NotRequestPrincipals: t.each(field, in.NotValues, plain)})
	case in.Key == "destination.port":
		t.out.When = append(t.out.When, authz.Condition{
			Kind: authz.ConditionOperation, Operation: authz.Operation{Ports: t.ports(field, in.Values), NotPorts: t.ports(field, in.NotValues)},
		})
	case in.Key == "destination.ip":
		t.addresses = append(t.addresses, addressCondition{t.networks(field, in.Values), t.networks(field, in.NotValues)})
	case in.Key == "request.auth.audiences":
		claim("aud")
	case in.Key == "request.auth.presenter":
		claim("azp")
	case ofToken:
		if path := brackets(claims); path != nil {
			claim(path...)
			return
		}
		t.unknown("%s", field)
	case inBrackets:
		path := brackets(name)
		if len(path) != 1 {
			t.unknown("%s", field)
			return
		}
		matches(authz.Condition{Kind: authz.ConditionHeader, Name: lower(path[0])}, t.header(false), t.header(true))
	default:
		t.unknown("%s", field)
	}
}

// brackets returns a and b of [a][b], or nil.
func brackets(s string) (out []string) {
	for s != "" {
		name, rest, ok := strings.Cut(s, "]")
		name, open := strings.CutPrefix(name, "[")
		if !ok || !open || name == "" || strings.Contains(name, "[") {
			return nil
		}
		out, s = append(out, name), rest
	}
	return out
}
