package authz

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// values compiles a list. It returns nil for an empty list, and for one of which a
// value is not understood.
func (k *compiler) values(field string, list []Match, t text) *values {
	if len(list) == 0 {
		return nil
	}
	v := new(values)
	for _, m := range list {
		compiled, err := compileMatch(m, t)
		if err != nil {
			k.problem(field, err)
			return nil
		}
		v.list = append(v.list, compiled)
	}
	return v.gather()
}

// gather puts exact values into a map if they are many.
func (v *values) gather() *values {
	exact := 0
	for i := range v.list {
		if v.list[i].kind == Exact && !v.list[i].fold {
			exact++
		}
	}
	if exact < manyValues {
		return v
	}
	out := &values{exact: make(map[string]struct{}, exact)}
	for _, m := range v.list {
		if m.kind == Exact && !m.fold {
			out.exact[m.value] = struct{}{}
		} else {
			out.list = append(out.list, m)
		}
	}
	return out
}

func (k *compiler) source(in *Source) *source {
	name := text{check: notEmpty}
	out := &source{
		principals:    k.values("principals", in.Principals, name),
		notPrincipals: k.values("notPrincipals", in.NotPrincipals, name),
		accounts:      k.accounts("serviceAccounts", in.ServiceAccounts),
		notAccounts:   k.accounts("notServiceAccounts", in.NotServiceAccounts),
		namespaces:    k.values("namespaces", in.Namespaces, name),
		notNamespaces: k.values("notNamespaces", in.NotNamespaces, name),
		domains:       k.values("trustDomains", in.TrustDomains, name),
		notDomains:    k.values("notTrustDomains", in.NotTrustDomains, name),
		networks:      k.networks("networks", in.Networks),
		notNetworks:   k.networks("notNetworks", in.NotNetworks),
		tokens:        k.values("requestPrincipals", in.RequestPrincipals, name),
		notTokens:     k.values("notRequestPrincipals", in.NotRequestPrincipals, name),
	}
	switch in.Authentication {
	case AnyAuthentication, Authenticated, Unauthenticated:
		out.authentication = in.Authentication
	default:
		k.problem("authentication", fmt.Errorf("kind %d is not known", in.Authentication))
	}
	same := *in
	same.RequestPrincipals, same.NotRequestPrincipals = nil, nil
	out.key = fmt.Sprintf("%#v", same) // strings are quoted: two sources cannot look alike
	return out
}

func (k *compiler) accounts(field string, in []ServiceAccount) *accounts {
	if len(in) == 0 {
		return nil
	}
	if k.options.TrustDomain == "" {
		k.problem(field, errors.New("the workload's trust domain is not known"))
		return nil
	}
	out := &accounts{k.options.TrustDomain, map[ServiceAccount]struct{}{}, map[string]struct{}{}}
	for _, a := range in {
		switch {
		case a.Namespace == "" || a.Name == "":
			k.problem(field, fmt.Errorf("%q/%q: a service account has a namespace and a name", a.Namespace, a.Name))
			return nil
		case strings.Contains(a.Namespace, "*") || a.Name != "*" && strings.Contains(a.Name, "*"):
			k.problem(field, fmt.Errorf("%q/%q: only the name may be *, and only as a whole", a.Namespace, a.Name))
			return nil
		case a.Name == "*":
			out.all[a.Namespace] = struct{}{}
		default:
			out.named[a] = struct{}{}
		}
	}
	return out
}

func (k *compiler) networks(field string, in []Network) (out []Network) {
	for _, n := range in {
		net := Network{CIDR: n.CIDR.Masked()}
		for _, p := range append([]netip.Prefix{n.CIDR}, n.Except...) {
			if !p.IsValid() || p.Addr().Is4In6() {
				k.problem(field, fmt.Errorf("%v is not a network", p))
				return nil
			}
		}
		for _, e := range n.Except {
			net.Except = append(net.Except, e.Masked())
		}
		out = append(out, net)
	}
	return out
}

func (k *compiler) operation(in *Operation) *operation {
	host := text{fold: true, check: hostValue}
	// Some applications read methods in any case of letters. A doubt refuses.
	method, notMethod := text{check: notEmpty, fold: k.wide}, text{check: notEmpty, fold: !k.wide}
	return &operation{
		ports:      k.ports("ports", in.Ports),
		notPorts:   k.ports("notPorts", in.NotPorts),
		hosts:      k.values("hosts", in.Hosts, host),
		notHosts:   k.values("notHosts", in.NotHosts, host),
		methods:    k.values("methods", in.Methods, method),
		notMethods: k.values("notMethods", in.NotMethods, notMethod),
		paths:      k.paths("paths", in.Paths),
		notPaths:   k.paths("notPaths", in.NotPaths),
		grpc:       k.grpc("grpc", in.GRPC),
		notGRPC:    k.grpc("notGRPC", in.NotGRPC),
		routes:     k.routes("routes", in.Routes),
	}
}

func (k *compiler) ports(field string, in []PortRange) []PortRange {
	for _, r := range in {
		if r.First == 0 || r.First > r.Last {
			k.problem(field, fmt.Errorf("%d to %d is no range of ports", r.First, r.Last))
			return nil
		}
	}
	return in
}

// paths compiles paths, those with percent-encoding in both forms: a request is
// read in both.
func (k *compiler) paths(field string, in []Match) *values {
	var all []Match
	for _, m := range in {
		if m.Kind == Exact || m.Kind == Prefix || m.Kind == Suffix || m.Kind == Template {
			if err := pathValue(m); err != nil {
				k.problem(field, err)
				return nil
			}
		}
		all = append(all, m)
		if d := decode(m.Value); d != m.Value && m.Kind != Regex && m.Kind != Present {
			all = append(all, Match{m.Kind, d})
		}
	}
	return k.values(field, all, text{template: true})
}

// pathValue refuses what no path can match, or only one of a path's readings.
func pathValue(m Match) error {
	for i := range len(m.Value) {
		if c := m.Value[i]; c <= ' ' || c >= 0x7f || c == '?' || c == '#' {
			return fmt.Errorf("path %q: %q cannot be in a path, unless it is percent-encoded", m.Value, rune(c))
		}
	}
	whole := decode(m.Value)
	switch m.Kind {
	case Suffix:
		if whole == "" {
			return errors.New("a path is empty")
		}
		return nil
	case Prefix, Template:
		if m.Kind == Template && whole != m.Value {
			return fmt.Errorf("path template %q: percent-encoding needs a regular expression", m.Value)
		}
		whole += "x" // its last segment may go on
	}
	if m.Kind == Exact && m.Value == "*" { // OPTIONS * (RFC 9112 §3.2.4)
		return nil
	}
	if !strings.HasPrefix(m.Value, "/") || normalise(whole) != whole {
		return fmt.Errorf("path %q: want one that begins with / and has no empty or dot segments", m.Value)
	}
	return nil
}

func (k *compiler) grpc(field string, in []GRPCMethod) *values {
	if len(in) == 0 {
		return nil
	}
	v := new(values)
	for _, m := range in {
		if m == (GRPCMethod{}) || strings.ContainsAny(m.Service+m.Method, "/*?% ") {
			k.problem(field, fmt.Errorf("%q/%q: want the names of a service, a method or both", m.Service, m.Method))
			return nil
		}
		out := matcher{kind: matchGRPC, grpc: m}
		switch {
		case m.Service != "" && m.Method != "":
			out = matcher{kind: Exact, value: "/" + m.Service + "/" + m.Method}
			out.lead = out.value
		case m.Service != "":
			out.lead = "/" + m.Service + "/"
		}
		v.list = append(v.list, out)
	}
	return v.gather()
}

func (k *compiler) routes(field string, in []string) *values {
	if len(in) == 0 {
		return nil
	}
	v := &values{exact: make(map[string]struct{}, len(in))}
	for _, name := range in {
		if name == "" {
			k.problem(field, errors.New("a name is empty"))
			return nil
		}
		v.exact[name] = struct{}{}
	}
	return v
}

func (k *compiler) condition(in *Condition) (condition, bool) {
	out := condition{kind: in.Kind, name: in.Name, claim: in.Claim}
	problems := len(k.problems)
	switch in.Kind {
	case ConditionHeader:
		if in.Name == "" || in.Name == "host" || strings.ToLower(in.Name) != in.Name || strings.ContainsAny(in.Name, ": \t\r\n") {
			k.problem("header", fmt.Errorf("%q: want the name of a header field other than host, in lower case", in.Name))
		}
		k.both("header "+in.Name, in, &out)
	case ConditionClaim:
		if len(in.Claim) == 0 {
			k.problem("claim", errors.New("has no name"))
		}
		k.both("claim "+strings.Join(in.Claim, "."), in, &out)
	case ConditionSource:
		out.source = k.source(&in.Source)
	case ConditionOperation:
		out.operation = k.operation(&in.Operation)
	case ConditionPredicate:
		if out.predicate = in.Predicate; in.Predicate == nil {
			k.problem("expression", errors.New(cmp.Or(in.Name, "there is none")))
		}
	default:
		k.problem("condition", fmt.Errorf("kind %d is not known", in.Kind))
	}
	return out, len(k.problems) == problems || out.source != nil || out.operation != nil
}

// both compiles the values of a condition. It needs some: without, it would match
// always.
func (k *compiler) both(field string, in *Condition, out *condition) {
	if len(in.Values)+len(in.NotValues) == 0 {
		k.problem(field, errors.New("has no values"))
	}
	out.values = k.values(field, in.Values, text{})
	out.notValues = k.values(field, in.NotValues, text{})
}

func notEmpty(v string) error {
	if v == "" {
		return errors.New("a value is empty")
	}
	return nil
}

// hostValue refuses hosts that no authority without its port can match.
func hostValue(v string) error {
	if v == "" || strings.Contains(v, ":") && !strings.Contains(v, "]") || strings.ContainsAny(v, "/ ") || strings.Contains(v, "]:") {
		return fmt.Errorf("host %q: want a name or address without a port", v)
	}
	return nil
}
