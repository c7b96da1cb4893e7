package istiopolicy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// each translates the values of a field. It returns nil if one of them is not understood.
func (t *translation) each(field string, values []string, translate func(string) ([]authz.Match, error)) (out []authz.Match) {
	for _, v := range values {
		if v == "" {
			t.unknown("%s: an empty value", field)
			return nil
		}
		m, err := translate(v)
		if err != nil {
			t.unknown("%s: %v", field, err)
			return nil
		}
		out = append(out, m...)
	}
	return out
}

// match reads a value: abc, abc*, *abc, or * for any that is not empty. Other stars are
// themselves.
func match(v string) authz.Match {
	switch {
	case v == "*":
		return authz.Match{Kind: authz.Present}
	case strings.HasPrefix(v, "*"):
		return authz.Match{Kind: authz.Suffix, Value: v[1:]}
	case strings.HasSuffix(v, "*"):
		return authz.Match{Kind: authz.Prefix, Value: v[:len(v)-1]}
	}
	return authz.Match{Value: v}
}

func plain(v string) ([]authz.Match, error) { return []authz.Match{match(v)}, nil }

// present reads a value as match does, where the fact may be there and be empty. Istio's
// documentation lets * match what is not empty, and its proxy what is there: the one that
// refuses more counts.
func (t *translation) present(v string, not bool) authz.Match {
	if v == "*" && t.wide != not {
		return authz.Match{Kind: authz.Regex, Value: ".*"}
	}
	return match(v)
}

func (t *translation) header(not bool) func(string) ([]authz.Match, error) {
	return func(v string) ([]authz.Match, error) { return []authz.Match{t.present(v, not)}, nil }
}

// localDomain stands for the mesh's trust domain, whatever that is.
const localDomain = "cluster.local"

// principal reads TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT. One of the mesh's own trust domain is
// meant with the domain's aliases too.
func (t *translation) principal(v string) ([]authz.Match, error) {
	if strings.HasPrefix(v, "spiffe:") {
		return nil, fmt.Errorf("%q: want a principal without spiffe://", v)
	}
	m := match(v)
	switch m.Kind {
	case authz.Prefix:
		m.Value = "spiffe://" + m.Value
	case authz.Exact:
		domain, _, _ := strings.Cut(v, "/")
		own := append([]string{t.mesh.TrustDomain}, t.mesh.TrustDomainAliases...)
		if t.mesh.TrustDomain == "" || strings.Count(v, "/") != 4 || domain != localDomain && !slices.Contains(own, domain) {
			own = []string{domain}
		}
		var out []authz.Match
		for _, d := range own {
			out = append(out, authz.Match{Value: "spiffe://" + d + strings.TrimPrefix(v, domain)})
		}
		return out, nil
	}
	return []authz.Match{m}, nil
}

// account reads NAMESPACE/ACCOUNT, or an account of the policy's namespace. It is one of any
// trust domain. Identities may have other parts between and after these.
func (t *translation) account(v string) ([]authz.Match, error) {
	namespace, name, ok := strings.Cut(v, "/")
	if !ok {
		namespace, name = t.namespace, v
	}
	if namespace == "" || name == "" || strings.ContainsAny(v, "*") || strings.Contains(name, "/") || len(v) > 320 {
		return nil, fmt.Errorf("%.350q: want NAMESPACE/ACCOUNT or ACCOUNT, without a wildcard", v)
	}
	return []authz.Match{{
		Kind: authz.Regex, Value: "spiffe://.+/ns/" + regexp.QuoteMeta(namespace) + "/(.+/|)sa/" + regexp.QuoteMeta(name) + "(/.+)?",
	}}, nil
}

// maxWildcards is the number of stars in the name of a namespace.
const maxWildcards = 8

// namespace reads the name of a namespace, where a star stands for any text everywhere.
func namespace(v string) ([]authz.Match, error) {
	if inner := strings.TrimSuffix(strings.TrimPrefix(v, "*"), "*"); !strings.Contains(inner, "*") &&
		(v == "*" || !strings.HasPrefix(v, "*") || !strings.HasSuffix(v, "*")) {
		return plain(v)
	}
	if strings.Count(v, "*") > maxWildcards || len(v) > 320 {
		return nil, fmt.Errorf("%.350q has more than %d wildcards", v, maxWildcards)
	}
	return []authz.Match{{Kind: authz.Regex, Value: strings.ReplaceAll(regexp.QuoteMeta(v), `\*`, ".*")}}, nil
}

// host reads a host. The engine compares hosts without their port, so that a port in the
// value can only be left out where that refuses more.
func (t *translation) host(not bool) func(string) ([]authz.Match, error) {
	return func(v string) ([]authz.Match, error) {
		name, port, ok := cutPort(v)
		if ok && port != "*" && t.wide == not {
			return nil, fmt.Errorf("host %q: hosts are compared without their port", v)
		}
		return []authz.Match{t.present(name, not)}, nil
	}
}

// cutPort splits NAME:PORT, where PORT may be *. An address of IPv6 has brackets.
func cutPort(v string) (name, port string, ok bool) {
	i := strings.LastIndexByte(v, ':')
	if i <= 0 || strings.HasSuffix(v, "]") || strings.Count(v, ":") > 1 && v[i-1] != ']' {
		return v, "", false
	}
	port = v[i+1:]
	if port != "*" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return v, "", false
		}
	}
	return v[:i], port, true
}

// path reads a path, or a template with the operators {*} and {**}.
func path(v string) ([]authz.Match, error) {
	if !strings.Contains(v, "{*}") && !strings.Contains(v, "{**}") {
		return plain(v)
	}
	if rest := strings.NewReplacer("{**}", "", "{*}", "").Replace(v); strings.ContainsAny(rest, "*{}") {
		return nil, fmt.Errorf("path template %q has another operator than {*} and {**}", v)
	}
	return []authz.Match{{Kind: authz.Template, Value: v}}, nil
}

func (t *translation) ports(field string, values []string) (out []authz.PortRange) {
	for _, v := range values {
		p, err := strconv.ParseUint(v, 10, 16)
		if err != nil || p == 0 {
			t.unknown("%s: %q is no port", field, v)
			return nil
		}
		out = append(out, authz.Port(uint16(p)))
	}
	return out
}

func (t *translation) networks(field string, values []string) (out []authz.Network) {
	for _, v := range values {
		p, err := network(v)
		if err != nil {
			t.unknown("%s: %q: %v", field, v, err)
			return nil
		}
		out = append(out, authz.Network{CIDR: p})
	}
	return out
}

func network(v string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v)
	if err != nil {
		a, err := netip.ParseAddr(v)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, errors.New("want a CIDR or an address")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, errors.New("an address of IPv4 in IPv6")
	}
	return p.Masked(), nil
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
