package route

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// oracle finds the rule literally as the specification describes it: it tries
// all matches of all routes and takes the best of those that fit.
func oracle(routes []*mesh.Route, r *Request) string {
	type found struct {
		to                      string
		exactHost, host         int
		kind, path              int
		service, grpcMethod     int
		method, headers, query  int
		created                 time.Time
		route                   string
		ruleIndex, matchesIndex int
	}
	anyGRPC := slices.ContainsFunc(routes, func(r *mesh.Route) bool { return r.GRPC })
	var all []found
	for _, route := range routes {
		if route.GRPC != (r.GRPC && anyGRPC) {
			continue
		}
		exactHost, host, ok := oracleHost(route.Hostnames, r.Authority)
		if !ok {
			continue
		}
		for i, rule := range route.Rules {
			matches := rule.Matches
			if len(matches) == 0 {
				matches = []mesh.RouteMatch{{}}
			}
			for j, m := range matches {
				if !oracleFits(&m, r, route.GRPC) {
					continue
				}
				f := found{
					to: rule.Backends[0].Service.Name, exactHost: exactHost, host: host,
					headers: len(m.Headers), query: len(m.Query),
					created: route.Created, route: route.Namespace + "/" + route.Name, ruleIndex: i, matchesIndex: j,
				}
				switch m.Path.Kind {
				case mesh.PathUnknown:
					f.kind = 3
				case mesh.PathExact:
					f.kind = 2
				case mesh.PathRegex:
					f.kind, f.path = 1, len(m.Path.Value)
				default:
					f.path = len(strings.TrimSuffix(m.Path.Value, "/"))
				}
				if m.Method != "" {
					f.method = 1
				}
				f.service, f.grpcMethod = len(m.GRPC.Service), len(m.GRPC.Method)
				all = append(all, f)
			}
		}
	}
	if len(all) == 0 {
		return "404"
	}
	return slices.MinFunc(all, func(a, b found) int {
		return cmp.Or(
			b.exactHost-a.exactHost, b.host-a.host,
			b.kind-a.kind, b.path-a.path, b.service-a.service, b.grpcMethod-a.grpcMethod,
			b.method-a.method, b.headers-a.headers, b.query-a.query,
			a.created.Compare(b.created), strings.Compare(a.route, b.route),
			a.ruleIndex-b.ruleIndex, a.matchesIndex-b.matchesIndex,
		)
	}).to
}

func oracleHost(names []string, authority string) (exact, matched int, ok bool) {
	ok = len(names) == 0
	host := strings.ToLower((&url.URL{Host: authority}).Hostname())
	for _, name := range names {
		if suffix, wild := strings.CutPrefix(name, "*"); wild {
			if strings.HasSuffix(host, suffix) && len(host) > len(suffix) {
				ok, matched = true, max(matched, len(name))
			}
		} else if host == name {
			ok, exact, matched = true, len(name), max(matched, len(name))
		}
	}
	return exact, matched, ok
}

func oracleFits(m *mesh.RouteMatch, r *Request, grpc bool) bool {
	path, query, _ := strings.Cut(r.Path, "?")
	whole := func(pattern, s string) bool { return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(s) }
	switch m.Path.Kind {
	case mesh.PathExact:
		if path != m.Path.Value {
			return false
		}
	case mesh.PathRegex:
		if !whole(m.Path.Value, path) {
			return false
		}
	default:
		want := strings.Split(strings.TrimSuffix(m.Path.Value, "/"), "/")
		have := strings.Split(path, "/")
		if len(have) < len(want) || !slices.Equal(have[:len(want)], want) {
			return false
		}
	}
	if grpc && m.GRPC != (mesh.GRPCMethodMatch{}) {
		parts := strings.Split(path, "/")
		// A service without a method is matched like a path prefix.
		if m.GRPC.Method != "" && (len(parts) != 3 || parts[1] == "" || parts[2] == "") || len(parts) < 2 {
			return false
		}
		if m.GRPC.Service != "" && parts[1] != m.GRPC.Service || m.GRPC.Method != "" && parts[2] != m.GRPC.Method {
			return false
		}
	}
	if m.Method != "" && r.Method != m.Method {
		return false
	}
	for _, h := range m.Headers {
		value, ok := r.Fields.Get(strings.ToLower(h.Name))
		if h.Unknown {
			continue
		}
		if !ok || !h.Regex && value != h.Value || h.Regex && !whole(h.Value, value) {
			return false
		}
	}
	params, _ := url.ParseQuery(query)
	for _, q := range m.Query {
		value, ok := params[q.Name]
		if q.Unknown {
			continue
		}
		if !ok || !q.Regex && value[0] != q.Value || q.Regex && !whole(q.Value, value[0]) {
			return false
		}
	}
	return true
}

// generator draws routes and requests from small sets of values, so that matches
// and ties are common.
type generator struct{ *rand.Rand }

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

var genHosts = []string{"a.example.com", "b.example.com", "example.com", "x.a.example.com", "other.org"}

func (g generator) routes() (all []*mesh.Route) {
	n := 0
	for i := range 1 + g.IntN(4) {
		r := &mesh.Route{
			Kind: "r", Namespace: "ns", Name: fmt.Sprint("r", i), Parent: parent,
			Created: time.Unix(int64(g.IntN(2)), 0), GRPC: g.IntN(4) == 0,
		}
		for range g.IntN(3) {
			r.Hostnames = append(r.Hostnames, g.one(append(genHosts, "*.example.com", "*.a.example.com", "*.com")...))
		}
		for range 1 + g.IntN(4) {
			rule := mesh.RouteRule{Backends: backend(fmt.Sprint("b", n))}
			n++
			for range g.IntN(3) {
				rule.Matches = append(rule.Matches, g.match(r.GRPC))
			}
			r.Rules = append(r.Rules, rule)
		}
		all = append(all, r)
	}
	return all
}

func (g generator) match(grpc bool) (m mesh.RouteMatch) {
	if g.IntN(3) == 0 {
		m.Headers = append(m.Headers, mesh.ValueMatch{Name: "H1", Value: g.one("1", "2"), Unknown: g.IntN(8) == 0})
	}
	if g.IntN(4) == 0 {
		m.Headers = append(m.Headers, mesh.ValueMatch{Name: "h2", Value: g.one("1", "[12]"), Regex: true})
	}
	if g.IntN(20) == 0 {
		m.Path.Kind = mesh.PathUnknown
		if g.IntN(2) == 0 {
			m.Path.Value = g.one("/a", "/a/", "/a/b")
		}
		return m
	}
	if grpc {
		switch g.IntN(4) {
		case 0:
			m.GRPC.Service = g.one("a", "a.b")
		case 1:
			m.GRPC.Method = g.one("b", "c")
		case 2:
			m.GRPC = mesh.GRPCMethodMatch{Service: g.one("a", "a.b"), Method: g.one("b", "c")}
		}
		return m
	}
	switch g.IntN(4) {
	case 0:
		m.Path = exact(g.one("/", "/a", "/a/", "/a/b"))
	case 1:
		m.Path = prefix(g.one("/", "/a", "/a/", "/a/b", "/a/b/c", "/ab"))
	case 2:
		m.Path = regex(g.one("/a.*", "/a/b|/b", ".*c", "/.?.?.?"))
	}
	if g.IntN(4) == 0 {
		m.Method = g.one("GET", "POST")
	}
	if g.IntN(4) == 0 {
		m.Query = append(m.Query, mesh.ValueMatch{Name: "q", Value: g.one("1", "a b", ""), Unknown: g.IntN(8) == 0})
	}
	return m
}

func (g generator) request() *Request {
	r := &Request{
		GRPC: g.IntN(3) == 0, Method: g.one("GET", "POST", "PUT"),
		Authority: g.one(append(genHosts, "A.Example.Com:8080", "[::1]:80")...),
		Path:      g.one("/", "/a", "/a/", "/a/b", "/a/b/", "/a//b", "/ab", "/a/b/c", "/a.b/c", "/b", "//a") + g.one("", "?q=1", "?q=a+b&q=1", "?x=y&q=a%20b", "?q"),
	}
	f := fields{}
	for _, name := range []string{"h1", "h2"} {
		if g.IntN(2) == 0 {
			f[name] = g.one("1", "2", "12")
		}
	}
	r.Fields = f
	return r
}

func TestAgainstOracle(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 6))}
	found := 0
	for range 2000 {
		routes := g.routes()
		table := compile(t, routes...)
		anyHTTP := slices.ContainsFunc(routes, func(r *mesh.Route) bool { return !r.GRPC })
		for range 20 {
			r := g.request()
			got, want := where(table, r), oracle(routes, r)
			if !r.GRPC && !anyHTTP {
				want = "unrouted"
			}
			if got != want {
				t.Fatalf("%+v\nwent to %s, want %s, of:\n%s", *r, got, want, describe(routes))
			}
			if want != "404" {
				found++
			}
		}
	}
	if found < 10000 {
		t.Errorf("%d requests matched a rule, want 10000 or more", found)
	}
}

func describe(routes []*mesh.Route) string {
	var out strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&out, "%s grpc=%v created=%d hosts=%v\n", r.Name, r.GRPC, r.Created.Unix(), r.Hostnames)
		for _, rule := range r.Rules {
			fmt.Fprintf(&out, "  %s: %+v\n", rule.Backends[0].Service.Name, rule.Matches)
		}
	}
	return out.String()
}

// FuzzMatch checks that, whatever a client sends, nothing panics and the Table
// agrees with the oracle.
func FuzzMatch(f *testing.F) {
	f.Add(uint64(1), "GET", "a.example.com:80", "/a/b?q=1", "h1", "1", false)
	f.Add(uint64(2), "OPTIONS", "", "*", "", "", false)
	f.Add(uint64(3), "POST", "[::1]:80", "/a.b/c", "h2", "2", true)
	f.Add(uint64(4), "CONNECT", "example.com", "", "", "", false)
	f.Add(uint64(5), "GET", "..", "//?%zz&=;+", "", "", false)
	f.Fuzz(func(t *testing.T, seed uint64, method, authority, path, header, value string, grpc bool) {
		g := generator{rand.New(rand.NewPCG(seed, 0))}
		routes := g.routes()
		table := compile(t, routes...)
		r := &Request{GRPC: grpc, Method: method, Authority: authority, Path: path, Fields: fields{header: value}}
		hit, verdict := table.Match(r)
		if verdict == Matched {
			action := hit.Rule.Choose(seed)
			target := action.AppendTarget(nil, r, hit)
			if string(target) != path {
				t.Errorf("target %q, want %q: there is no rewrite", target, path)
			}
		}
		// The oracle parses authorities and queries with net/url, which does not
		// accept all the malformed ones.
		if _, err := url.ParseQuery(path); err != nil || strings.ContainsAny(path, ";") || !strings.HasPrefix(path, "/") {
			return
		}
		if u, err := url.Parse("http://" + authority); err != nil || u.Host != authority || strings.HasSuffix(hostOf(authority), ".") ||
			strings.ContainsAny(authority, "%[") || authority != strings.ToValidUTF8(strings.ToLower(authority), "") || len(authority) > maxHost {
			return
		}
		want := oracle(routes, r)
		if verdict == Unrouted {
			return
		}
		if got := where(table, r); got != want {
			t.Errorf("%+v went to %s, want %s, of:\n%s", *r, got, want, describe(routes))
		}
	})
}

// FuzzQuery compares the decoding of queries with net/url's.
func FuzzQuery(f *testing.F) {
	f.Add("a=1&b=2", "b")
	f.Add("%61+b=%20&c", "a b")
	f.Add("a=%zz", "a")
	f.Fuzz(func(t *testing.T, query, name string) {
		value, ok := parameter(query, name)
		if ok && !equalDecoded(value, decoded(value)) {
			t.Errorf("equalDecoded(%q, %q) = false, want true", value, decoded(value))
		}
		params, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		want := params[name]
		if ok != (len(want) > 0) || ok && decoded(value) != want[0] {
			t.Errorf("parameter %q of %q: got %q (found: %v), want the first of %q", name, query, decoded(value), ok, want)
		}
	})
}
