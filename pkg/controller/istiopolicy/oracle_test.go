package istiopolicy

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// policy is an AuthorizationPolicy as the oracle and the generator have it.
type policy struct {
	namespace string
	spec      authorizationSpec
	unknown   bool         // a field was added to its specification that nobody knows
	unknowns  map[int]bool // or to one of its rules
}

// call is a request, or with a zero method a connection that carries none.
type call struct {
	client       [3]string // trust domain, namespace, service account; zero: none
	ip           string
	port         int
	method, host string
	paths        []string // in all readings
	headers      [][2]string
	token        [2]string // issuer and subject; zero: none
	claims       [][2]string
}

// pod is what the oracle's policies are judged for: its own address, its labels.
var pod = Workload{Namespace: "a", Labels: map[string]string{"app": "web"}, Services: []string{"web"}}

const podAddress = "10.9.9.9"

// oracle decides as Istio's reference describes it (security.istio.io/v1), and for what is not
// understood as the documentation of the package does. It compiles nothing, and knows
// nothing of the engine. The answers are allow, deny and ask.
func oracle(all []policy, c *call) string {
	allows, allow, ask := false, false, false
	for i := range all {
		p := &all[i]
		if !p.applies() {
			continue
		}
		switch p.spec.Action {
		case "ALLOW", "":
			allows = true
			allow = allow || (&judge{policy: p, call: c}).matches()
		case "AUDIT":
		case "CUSTOM":
			if (&judge{policy: p, call: c, wide: true}).matches() {
				if p.spec.Provider == nil {
					return "deny"
				}
				ask = true
			}
		default:
			if (&judge{policy: p, call: c, wide: true}).matches() {
				return "deny"
			}
		}
	}
	switch {
	case !allow && allows:
		return "deny"
	case ask:
		return "ask"
	}
	return "allow"
}

func (p *policy) applies() bool {
	same := p.namespace == "a"
	if !same && p.namespace != "root" {
		return false
	}
	if len(p.spec.TargetRefs) > 0 && p.spec.Selector == nil {
		services := false
		for _, r := range p.spec.TargetRefs {
			switch r.Kind {
			case "Service":
				services = services || same && r.Name == "web"
			case "Gateway":
			default:
				return true
			}
		}
		return services
	}
	if p.spec.Selector == nil || len(p.spec.TargetRefs) > 0 {
		return true
	}
	for k, v := range p.spec.Selector.MatchLabels {
		if pod.Labels[k] != v {
			return false
		}
	}
	return true
}

// judge judges one policy. wide: a doubt counts as a match.
type judge struct {
	*policy
	*call
	wide, bad bool
}

func (j *judge) doubt() bool { j.bad = true; return true }

func (j *judge) matches() bool {
	s := &j.policy.spec
	known := !j.unknown && strings.Contains(" ALLOW DENY AUDIT CUSTOM  ", " "+s.Action+" ") && (s.Provider == nil || s.Action == "CUSTOM")
	if len(s.TargetRefs) > 0 {
		for _, r := range s.TargetRefs {
			known = known && (r.Kind == "Service" || r.Kind == "Gateway")
		}
		known = known && s.Selector == nil
	}
	if !known {
		return j.wide
	}
	for i := range s.Rules {
		j.bad = j.unknowns[i]
		if j.rule(&s.Rules[i]) && (j.wide || !j.bad) {
			return true
		}
	}
	return false
}

func (j *judge) rule(r *ruleSpec) bool {
	from, to, when := len(r.From) == 0, len(r.To) == 0, true
	for _, f := range r.From {
		if f.Source == nil {
			from = j.doubt()
		} else if j.source(f.Source) {
			from = true
		}
	}
	for _, o := range r.To {
		if o.Operation == nil {
			to = j.doubt()
		} else if j.operation(o.Operation) {
			to = true
		}
	}
	for i := range r.When {
		when = j.condition(&r.When[i]) && when
	}
	return from && to && when
}

// field judges values and their negation against a fact with the given readings, none if
// the fact is absent. known tells a value that is understood, fits one that matches.
func (j *judge) field(values, not, readings []string, known func(string) bool, fits func(v, s string) bool) bool {
	one := func(list []string, want bool) bool {
		for _, v := range list {
			if v == "" || !known(v) {
				return j.doubt()
			}
		}
		if len(list) == 0 {
			return true
		}
		yes := 0
		for _, s := range readings {
			if slices.ContainsFunc(list, func(v string) bool { return fits(v, s) }) == want {
				yes++
			}
		}
		if len(readings) == 0 {
			return !want
		}
		return yes == len(readings) || j.wide && yes > 0
	}
	a, b := one(values, true), one(not, false)
	return a && b
}

func always(string) bool { return true }

func fits(v, s string) bool {
	switch {
	case v == "*":
		return s != ""
	case v[0] == '*':
		return strings.HasSuffix(s, v[1:])
	case v[len(v)-1] == '*':
		return strings.HasPrefix(s, v[:len(v)-1])
	}
	return s == v
}

func optional(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// uri is the client's SPIFFE ID without its scheme.
func (j *judge) uri() []string {
	if j.client[0] == "" {
		return nil
	}
	return []string{j.client[0] + "/ns/" + j.client[1] + "/sa/" + j.client[2]}
}

func (j *judge) principals(values, not []string) bool {
	return j.field(values, not, j.uri(), func(v string) bool { return !strings.HasPrefix(v, "spiffe://") }, func(v, s string) bool {
		if v[0] == '*' {
			return fits(v, "spiffe://"+s) // a suffix, with the scheme before it
		}
		if fits(v, s) {
			return true
		}
		// home is the mesh's trust domain, old its alias, and cluster.local stands for both.
		for _, own := range []string{"home/", "old/", "cluster.local/"} {
			if rest, ok := strings.CutPrefix(v, own); ok && strings.Count(v, "/") == 4 && v[len(v)-1] != '*' {
				return s == "home/"+rest || s == "old/"+rest
			}
		}
		return false
	})
}

func (j *judge) namespaces(values, not []string) bool {
	return j.field(values, not, optional(j.client[1]), always, func(v, s string) bool {
		return regexp.MustCompile("^" + strings.ReplaceAll(v, "*", ".*") + "$").MatchString(s)
	})
}

func (j *judge) tokens(values, not []string) bool {
	if j.method == "" && len(values)+len(not) > 0 {
		j.field(values, not, nil, always, fits)
		return j.wide
	}
	var joined []string
	if j.token[0] != "" {
		joined = []string{j.token[0] + "/" + j.token[1]}
	}
	return j.field(values, not, joined, always, fits)
}

func address(v string) (*net.IPNet, bool) {
	if ip := net.ParseIP(v); ip != nil && ip.To4() != nil {
		v += "/32"
	}
	_, n, err := net.ParseCIDR(v)
	return n, err == nil
}

func (j *judge) blocks(values, not []string, ip string) bool {
	return j.field(values, not, []string{ip}, func(v string) bool { _, ok := address(v); return ok }, func(v, s string) bool {
		n, _ := address(v)
		return n.Contains(net.ParseIP(s))
	})
}

func (j *judge) source(s *sourceSpec) bool {
	ok := true
	if len(s.RemoteIPBlocks)+len(s.NotRemoteIPBlocks) > 0 {
		j.doubt()
	}
	account := func(v string) bool { return !strings.Contains(v, "*") && strings.Count(v, "/") < 2 }
	others := len(s.Principals)+len(s.NotPrincipals)+len(s.Namespaces)+len(s.NotNamespaces) > 0
	if len(s.ServiceAccounts)+len(s.NotServiceAccounts) > 0 && others {
		j.doubt()
	} else {
		ok = j.field(s.ServiceAccounts, s.NotServiceAccounts, optional(strings.TrimPrefix(j.client[1]+"/"+j.client[2], "/")), account, func(v, s string) bool {
			return v == s || j.policy.namespace+"/"+v == s
		})
	}
	ok = j.principals(s.Principals, s.NotPrincipals) && ok
	ok = j.namespaces(s.Namespaces, s.NotNamespaces) && ok
	ok = j.field(s.TrustDomains, s.NotTrustDomains, optional(j.client[0]), always, fits) && ok
	ok = j.tokens(s.RequestPrincipals, s.NotRequestPrincipals) && ok
	return j.blocks(s.IPBlocks, s.NotIPBlocks, j.ip) && ok
}

// http judges a fact that only a request has.
func (j *judge) http(values, not, readings []string, known func(string) bool, fits func(v, s string) bool) bool {
	ok := j.field(values, not, readings, known, fits)
	understood := func(list []string) bool {
		return len(list) > 0 && !slices.ContainsFunc(list, func(v string) bool { return v == "" || !known(v) })
	}
	if j.method == "" && (understood(values) || understood(not)) {
		return j.wide
	}
	return ok
}

func (j *judge) ports(values, not []string) bool {
	return j.field(values, not, []string{strconv.Itoa(j.port)}, func(v string) bool {
		n, err := strconv.Atoi(v)
		return err == nil && n > 0 && n < 65536
	}, func(v, s string) bool { return v == s })
}

func (j *judge) operation(o *operationSpec) bool {
	host, _, _ := strings.Cut(strings.ToLower(j.host), ":")
	// A value with a port is understood where it refuses more without it.
	side := func(closed bool) func(string) bool {
		return func(v string) bool { return !regexp.MustCompile(`:[0-9]+$`).MatchString(v) || closed }
	}
	name := func(v, s string) bool {
		v, _, _ = strings.Cut(strings.ToLower(v), ":")
		return fits(v, s)
	}
	ok := j.http(o.Hosts, nil, []string{host}, side(j.wide), name)
	ok = j.http(nil, o.NotHosts, []string{host}, side(!j.wide), name) && ok
	ok = j.http(o.Methods, o.NotMethods, []string{j.method}, always, fits) && ok
	ok = j.ports(o.Ports, o.NotPorts) && ok
	return j.http(o.Paths, o.NotPaths, j.paths, pathKnown, pathFits) && ok
}

func isTemplate(v string) bool { return strings.Contains(v, "{*}") || strings.Contains(v, "{**}") }

func pathKnown(v string) bool {
	if isTemplate(v) {
		return regexp.MustCompile(`^(/\{\*\}|/[a-z]+)*(/\{\*\*\}(/[a-z]*)*)?$`).MatchString(v)
	}
	return v[0] == '*' || v[0] == '/' && !strings.Contains(v, "//")
}

func pathFits(v, s string) bool {
	if isTemplate(v) {
		v = strings.ReplaceAll(strings.ReplaceAll(v, "{**}", ".*"), "{*}", "[^/]+")
		return regexp.MustCompile("^" + v + "$").MatchString(s)
	}
	return fits(v, s)
}

func (j *judge) condition(c *conditionSpec) bool {
	if len(c.Values)+len(c.NotValues) == 0 {
		return j.doubt()
	}
	switch c.Key {
	case "source.ip":
		return j.blocks(c.Values, c.NotValues, j.ip)
	case "source.namespace":
		return j.namespaces(c.Values, c.NotValues)
	case "source.principal":
		return j.principals(c.Values, c.NotValues)
	case "request.auth.principal":
		return j.tokens(c.Values, c.NotValues)
	case "destination.port":
		return j.ports(c.Values, c.NotValues)
	case "destination.ip":
		return j.blocks(c.Values, c.NotValues, podAddress)
	case "request.headers[X-Role]":
		var lines []string
		for _, h := range j.headers {
			if h[0] == "x-role" {
				lines = append(lines, h[1])
			}
		}
		ok := j.http(c.Values, nil, lines, always, func(v, s string) bool { return fits(v, s) || v == "*" && j.wide })
		return j.http(nil, c.NotValues, lines, always, func(v, s string) bool { return fits(v, s) || v == "*" && !j.wide }) && ok
	case "request.auth.claims[groups]", "request.auth.audiences":
		var all []string
		name := map[string]string{"request.auth.audiences": "aud"}[c.Key]
		for _, kv := range j.claims {
			if kv[0] == name || name == "" && kv[0] == "groups" {
				all = append(all, kv[1])
			}
		}
		in := func(list []string) bool {
			return slices.ContainsFunc(all, func(s string) bool {
				return slices.ContainsFunc(list, func(v string) bool { return fits(v, s) })
			})
		}
		bad := false
		for _, list := range [][]string{c.Values, c.NotValues} {
			if slices.Contains(list, "") {
				bad = j.doubt()
			}
		}
		values, not := c.Values, c.NotValues
		if slices.Contains(values, "") {
			values = nil
		}
		if slices.Contains(not, "") {
			not = nil
		}
		if len(values)+len(not) == 0 {
			return bad
		}
		if j.method == "" {
			return j.wide
		}
		return (len(values) == 0 || in(values)) && !in(not)
	}
	return j.doubt()
}
