package authz_test

import (
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	. "github.com/underlane/underlane/pkg/policy/authz"
)

// oracle decides literally as the documentation of the package and those of Istio
// and Linkerd describe it: it walks through all policies, with no index, and compiles
// nothing.
type oracle struct {
	policies []Policy
	options  Options
}

// rules yields what the policies of one action are, after what fails closed.
func (o *oracle) rules(want Action, rehearse bool, yield func(p *Policy, r *Rule, at int)) {
	// A workload has one authorizer: the first of the policies that are applied.
	provider := ""
	for _, p := range o.policies {
		if p.Action == ActionExternal && !p.Rehearse && provider == "" {
			provider = p.Provider
		}
	}
	for i := range o.policies {
		p := o.policies[i]
		if p.Rehearse && !rehearse {
			continue
		}
		all := []Rule{{}}
		switch p.Action {
		case ActionExternal:
			if p.Provider == "" || provider != "" && provider != p.Provider {
				p.Action = ActionDeny
			} else {
				provider = p.Provider
			}
		case ActionDeny, ActionAllow, ActionAudit:
		default:
			p.Action, p.Rules = ActionDeny, all
		}
		if len(p.Unknown) > 0 {
			if p.Action == ActionDeny || p.Action == ActionExternal {
				p.Rules = all
			} else {
				p.Rules = nil
			}
		}
		if p.Action == want {
			if len(p.Rules) == 0 {
				yield(&p, nil, 0)
			}
			for j := range p.Rules {
				yield(&p, &p.Rules[j], j+1)
			}
		}
	}
}

// match finds the first rule that matches; present says whether there are policies of
// the action.
func (o *oracle) match(a Action, rehearse bool, c *Connection, r *Request, who *client) (place Place, found, present bool) {
	e := eval{wide: a == ActionDeny || a == ActionExternal, c: c, r: r, who: who, domain: o.options.TrustDomain}
	o.rules(a, rehearse, func(p *Policy, rule *Rule, at int) {
		present = true
		if !found && rule != nil && e.rule(rule) {
			place, found = Place{Policy: p.Name, Rule: rule.Name, Number: at}, true
		}
	})
	return place, found, present
}

func (o *oracle) outcome(rehearse bool, c *Connection, r *Request, who *client) Outcome {
	ask, asks, _ := o.match(ActionExternal, rehearse, c, r, who)
	deny, denies, _ := o.match(ActionDeny, rehearse, c, r, who)
	allow, allows, any := o.match(ActionAllow, rehearse, c, r, who)
	var rest Outcome
	switch {
	case denies:
		rest = Outcome{Verdict: Deny, Why: WhyRule, Place: deny}
	case allows:
		rest = Outcome{Verdict: Allow, Why: WhyRule, Place: allow}
	case any:
		rest = o.mode(o.options.Unmatched, WhyUnmatched, c, who)
	default:
		rest = o.mode(o.options.Default, WhyDefault, c, who)
	}
	switch {
	case asks && r.External == Refused:
		return Outcome{Verdict: Deny, Why: WhyExternal, Place: ask}
	case asks && r.External == NotAsked && rest.Verdict == Allow:
		return Outcome{Verdict: Ask, Why: WhyRule, Place: ask}
	}
	return rest
}

func (o *oracle) mode(m Mode, why Why, c *Connection, who *client) Outcome {
	identity := who.uri != ""
	cluster := slices.ContainsFunc(o.options.Cluster, func(p netip.Prefix) bool { return contains(p, c.Client) })
	ok := false
	switch m.String() {
	case "audit":
		return Outcome{Verdict: Allow, Why: WhyAudit}
	case "all-unauthenticated":
		ok = true
	case "all-authenticated":
		ok = identity
	case "cluster-unauthenticated":
		ok = cluster
	case "cluster-authenticated":
		ok = cluster && identity
	}
	if ok {
		return Outcome{Verdict: Allow, Why: why}
	}
	return Outcome{Verdict: Deny, Why: why}
}

func (o *oracle) decide(c *Connection, r *Request, who *client) Decision {
	if c.Probe {
		return Decision{Outcome: Outcome{Verdict: Allow, Why: WhyProbe}}
	}
	d := Decision{Outcome: o.outcome(false, c, r, who)}
	d.Audit, _, _ = o.match(ActionAudit, false, c, r, who)
	if slices.ContainsFunc(o.policies, func(p Policy) bool { return p.Rehearse }) {
		d.Rehearsed, d.Rehearsal = true, o.outcome(true, c, r, who)
	}
	return d
}

// client is the client's identity in its parts.
type client struct{ uri, domain, namespace, account string }

// eval judges the rules of one action for one request.
type eval struct {
	wide   bool
	c      *Connection
	r      *Request
	who    *client
	domain string
	bad    bool // a field is not understood
}

// rule judges all fields, to find those that are not understood.
func (e *eval) rule(r *Rule) bool {
	e.bad = len(r.Unknown) > 0
	from, to, when := len(r.From) == 0, len(r.To) == 0, true
	for i := range r.From {
		if e.source(&r.From[i]) {
			from = true
		}
	}
	for i := range r.To {
		if e.operation(&r.To[i]) {
			to = true
		}
	}
	for i := range r.When {
		if !e.condition(&r.When[i]) {
			when = false
		}
	}
	return from && to && when && (e.wide || !e.bad)
}

// field judges a field and its Not form over the readings of a fact. valid says
// whether a value is understood.
func (e *eval) field(values, not []Match, readings []string, fold bool, valid func(Match) bool) bool {
	one := func(list []Match, want bool) bool {
		if len(list) == 0 {
			return true
		}
		for _, m := range list {
			if !valid(m) {
				e.bad = true
				return true
			}
		}
		if len(readings) == 0 {
			return !want
		}
		yes := 0
		for _, s := range readings {
			if slices.ContainsFunc(list, func(m Match) bool { return matches(m, s, fold) }) == want {
				yes++
			}
		}
		return yes == len(readings) || e.wide && yes > 0
	}
	a, b := one(values, true), one(not, false)
	return a && b
}

func matches(m Match, s string, fold bool) bool {
	if fold && m.Kind != Regex {
		m.Value, s = strings.ToLower(m.Value), strings.ToLower(s)
	}
	switch m.Kind {
	case Exact:
		return s == m.Value
	case Prefix:
		return strings.HasPrefix(s, m.Value)
	case Suffix:
		return strings.HasSuffix(s, m.Value)
	case Present:
		return len(s) > 0
	case Regex:
		flags := "s"
		if fold {
			flags = "is"
		}
		return regexp.MustCompile("^(?" + flags + ":" + m.Value + ")$").MatchString(s)
	case Template:
		expression := regexp.QuoteMeta(m.Value)
		expression = strings.ReplaceAll(expression, `\{\*\*\}`, ".*")
		expression = strings.ReplaceAll(expression, `\{\*\}`, "[^/]+")
		return regexp.MustCompile("^(?s:" + expression + ")$").MatchString(s)
	}
	return false
}

func known(m Match) bool {
	if m.Kind == Regex {
		_, err := regexp.Compile(m.Value)
		return err == nil
	}
	return m.Kind <= Present
}

func named(m Match) bool { return known(m) && (m.Value != "" || m.Kind == Present || m.Kind == Regex) }

func list(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (e *eval) source(s *Source) bool {
	ok := e.field(s.Principals, s.NotPrincipals, list(e.who.uri), false, named)
	ok = e.field(s.Namespaces, s.NotNamespaces, list(e.who.namespace), false, named) && ok
	ok = e.field(s.TrustDomains, s.NotTrustDomains, list(e.who.domain), false, named) && ok
	ok = e.field(s.RequestPrincipals, s.NotRequestPrincipals, list(e.r.Principal), false, named) && ok
	ok = e.accounts(s.ServiceAccounts, true) && ok
	ok = e.accounts(s.NotServiceAccounts, false) && ok
	ok = e.networks(s.Networks, true) && ok
	ok = e.networks(s.NotNetworks, false) && ok
	switch s.Authentication {
	case AnyAuthentication:
	case Authenticated:
		ok = ok && e.who.uri != ""
	case Unauthenticated:
		ok = ok && e.who.uri == ""
	default:
		e.bad = true
	}
	return ok
}

func (e *eval) accounts(all []ServiceAccount, want bool) bool {
	if len(all) == 0 {
		return true
	}
	found := false
	for _, a := range all {
		if e.domain == "" || a.Namespace == "" || a.Name == "" || strings.Contains(a.Namespace, "*") || len(a.Name) > 1 && strings.Contains(a.Name, "*") {
			e.bad = true
			return true
		}
		found = found || e.who.domain == e.domain && e.who.namespace == a.Namespace && (a.Name == "*" || a.Name == e.who.account)
	}
	return found == want
}

func (e *eval) networks(all []Network, want bool) bool {
	if len(all) == 0 {
		return true
	}
	found := false
	for _, n := range all {
		for _, p := range append(slices.Clone(n.Except), n.CIDR) {
			if !p.IsValid() {
				e.bad = true
				return true
			}
		}
		found = found || contains(n.CIDR, e.c.Client) &&
			!slices.ContainsFunc(n.Except, func(p netip.Prefix) bool { return contains(p, e.c.Client) })
	}
	return found == want
}

// contains compares with package net, which treats IPv4 in IPv6 as IPv4.
func contains(p netip.Prefix, a netip.Addr) bool {
	_, network, err := net.ParseCIDR(p.String())
	return err == nil && a.IsValid() && network.Contains(net.IP(a.AsSlice()))
}

func (e *eval) operation(o *Operation) bool {
	paths := pathReadings(e.r.Path)
	authority := strings.ToLower(e.r.Authority)
	host := strings.TrimSuffix(regexp.MustCompile(`^(\[.*\]|[^:]*)(:[0-9]*)?$`).ReplaceAllString(authority, "$1"), ".")
	ok := e.ports(o.Ports, true)
	ok = e.ports(o.NotPorts, false) && ok
	hosts := []string{host}
	if !wellFormed.MatchString(authority) {
		hosts = nil // any
	}
	hostKnown := func(m Match) bool {
		return m.Kind == Regex && known(m) || m.Kind == Present || known(m) && m.Value != "" && (!strings.Contains(m.Value, ":") || strings.HasPrefix(m.Value, "["))
	}
	hostsFit := e.field(o.Hosts, o.NotHosts, hosts, true, hostKnown)
	if hosts == nil && (len(o.Hosts) > 0 && allOf(o.Hosts, hostKnown) || len(o.NotHosts) > 0 && allOf(o.NotHosts, hostKnown)) {
		hostsFit = e.wide
	}
	ok = hostsFit && ok
	ok = e.field(o.Methods, nil, []string{e.r.Method}, e.wide, named) && ok
	ok = e.field(nil, o.NotMethods, []string{e.r.Method}, !e.wide, named) && ok
	spelled := paths
	if !e.wide && slices.ContainsFunc(twoForms(o.Paths), func(m Match) bool { return m.Kind == Exact && m.Value == paths[0] }) {
		spelled = pathReadings(strings.ReplaceAll(e.r.Path, ";", "%3b"))
		spelled[0] = paths[0]
	}
	ok = e.field(twoForms(o.Paths), nil, spelled, false, pathKnown) && ok
	ok = e.field(nil, twoForms(o.NotPaths), paths, false, pathKnown) && ok
	ok = e.grpc(o.GRPC, true, paths) && ok
	ok = e.grpc(o.NotGRPC, false, paths) && ok
	if slices.Contains(o.Routes, "") {
		e.bad = true
	} else if len(o.Routes) > 0 {
		ok = ok && slices.Contains(o.Routes, e.r.Route)
	}
	return ok
}

var wellFormed = regexp.MustCompile(`^(\[[0-9a-f:.]*\]|[^]:@/\\%[]+)(:[0-9]*)?$|^[0-9a-f.]*(:[0-9a-f.]*){2,}$`)

func (e *eval) ports(all []PortRange, want bool) bool {
	found := false
	for _, r := range all {
		if r.First == 0 || r.Last < r.First {
			e.bad = true
			return true
		}
		found = found || e.c.Port >= r.First && e.c.Port <= r.Last
	}
	return len(all) == 0 || found == want
}

func (e *eval) grpc(all []GRPCMethod, want bool, paths []string) bool {
	if len(all) == 0 {
		return true
	}
	for _, m := range all {
		if m.Service == "" && m.Method == "" || strings.Contains(m.Service+m.Method, "/") {
			e.bad = true
			return true
		}
	}
	yes := 0
	for _, p := range paths {
		found := false
		for _, m := range all {
			part := strings.Split(p, "/")
			found = found || len(part) == 3 && part[0] == "" && part[1] != "" && part[2] != "" &&
				(m.Service == "" || m.Service == part[1]) && (m.Method == "" || m.Method == part[2])
		}
		if found == want {
			yes++
		}
	}
	return yes == len(paths) || e.wide && yes > 0
}

func pathReadings(target string) []string {
	raw := target
	if i := strings.Index(raw, "?"); i >= 0 {
		raw = raw[:i]
	}
	if raw == "" {
		raw = "/"
	}
	out := []string{raw, cleaned(raw)}
	if strings.Contains(raw, ";") {
		out = append(out, cleaned(parameters.ReplaceAllString(raw, "")))
	}
	return slices.Compact(out)
}

var parameters = regexp.MustCompile(`;[^/]*`)

func cleaned(raw string) string {
	if raw == "" {
		return "/"
	}
	if !strings.ContainsAny(raw, `%\`) && !strings.Contains(raw, "//") && !strings.Contains(raw, "/.") {
		return raw
	}
	s := "/" + strings.ReplaceAll(percent.ReplaceAllStringFunc(raw, unescape), `\`, "/")
	clean := path.Clean(s)
	if clean != "/" && (strings.HasSuffix(s, "/") || strings.HasSuffix(s, "/.") || strings.HasSuffix(s, "/..")) {
		clean += "/"
	}
	return clean
}

var percent = regexp.MustCompile(`%[0-9a-fA-F]{2}`)

func unescape(s string) string {
	const digits = "0123456789abcdef"
	s = strings.ToLower(s)
	return string([]byte{byte(strings.IndexByte(digits, s[1])<<4 | strings.IndexByte(digits, s[2]))})
}

// twoForms adds to values with percent-encoding the same without.
func twoForms(in []Match) (out []Match) {
	for _, m := range in {
		out = append(out, m)
		if m.Kind == Exact || m.Kind == Prefix || m.Kind == Suffix {
			if d := percent.ReplaceAllStringFunc(m.Value, unescape); d != m.Value && pathKnown(m) {
				out = append(out, Match{Kind: m.Kind, Value: d})
			}
		}
	}
	return out
}

// pathKnown knows the bad paths that the generator makes.
func pathKnown(m Match) bool {
	if m.Kind == Template {
		return m.Value != badTemplate && strings.HasPrefix(m.Value, "/")
	}
	return known(m) && (m.Kind == Regex || m.Kind == Present || m.Kind == Suffix && m.Value != "" || strings.HasPrefix(m.Value, "/"))
}

func (e *eval) condition(c *Condition) bool {
	switch c.Kind {
	case ConditionHeader, ConditionClaim:
		var all []string
		for _, kv := range *e.r.Fields.(*fields) {
			if c.Kind == ConditionHeader && kv[0] == c.Name {
				all = append(all, kv[1])
			}
		}
		for _, kv := range e.r.Claims.(claims) {
			if c.Kind == ConditionClaim && kv[0] == strings.Join(c.Claim, ".") {
				all = append(all, kv[1])
			}
		}
		if len(c.Values)+len(c.NotValues) == 0 || !allOf(c.Values, known) || !allOf(c.NotValues, known) {
			e.bad = true
			return true
		}
		if c.Kind == ConditionHeader {
			return e.field(c.Values, c.NotValues, all, false, known)
		}
		// One element of a claim is enough.
		in := func(list []Match) bool {
			return slices.ContainsFunc(all, func(s string) bool {
				return slices.ContainsFunc(list, func(m Match) bool { return matches(m, s, false) })
			})
		}
		return (len(c.Values) == 0 || in(c.Values)) && !in(c.NotValues)
	case ConditionSource:
		return e.source(&c.Source)
	case ConditionOperation:
		return e.operation(&c.Operation)
	case ConditionPredicate:
		if c.Predicate == nil {
			break
		}
		ok, err := c.Predicate.Matches(e.c, e.r)
		return ok && err == nil || err != nil && e.wide
	}
	e.bad = true
	return true
}

func allOf(list []Match, is func(Match) bool) bool {
	return !slices.ContainsFunc(list, func(m Match) bool { return !is(m) })
}
