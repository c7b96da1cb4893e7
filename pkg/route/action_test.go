package route

import (
	"math"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// action returns the action of a rule for a request.
func action(t testing.TB, rule mesh.RouteRule, r *Request) (*Action, Hit) {
	t.Helper()
	hit, verdict := compile(t, httpRoute("r", rule)).Match(r)
	if verdict != Matched {
		t.Fatalf("%s: verdict %d, want Matched", r.Path, verdict)
	}
	return hit.Rule.Choose(0), hit
}

// rewriting returns a rule that matches a prefix and rewrites the path.
func rewriting(from string, kind mesh.PathRewriteKind, to string) mesh.RouteRule {
	r := rule("b", mesh.RouteMatch{Path: prefix(from)})
	r.Filters.Rewrite = &mesh.RouteRewrite{Path: mesh.PathRewrite{Kind: kind, Value: to}}
	return r
}

// TestRewritePath has the specification's table of ReplacePrefixMatch.
func TestRewritePath(t *testing.T) {
	for _, tc := range []struct {
		path, prefix string
		kind         mesh.PathRewriteKind
		to, want     string
	}{
		{"/foo/bar", "/foo", mesh.PathReplacePrefix, "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", mesh.PathReplacePrefix, "/xyz/", "/xyz/bar"},
		{"/foo/bar", "/foo/", mesh.PathReplacePrefix, "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo/", mesh.PathReplacePrefix, "/xyz/", "/xyz/bar"},
		{"/foo", "/foo", mesh.PathReplacePrefix, "/xyz", "/xyz"},
		{"/foo/", "/foo", mesh.PathReplacePrefix, "/xyz", "/xyz/"},
		{"/foo/bar", "/foo", mesh.PathReplacePrefix, "", "/bar"},
		{"/foo/", "/foo", mesh.PathReplacePrefix, "", "/"},
		{"/foo", "/foo", mesh.PathReplacePrefix, "", "/"},
		{"/foo/", "/foo", mesh.PathReplacePrefix, "/", "/"},
		{"/foo", "/foo", mesh.PathReplacePrefix, "/", "/"},

		{"/foo/bar?a=/foo", "/foo", mesh.PathReplacePrefix, "/xyz", "/xyz/bar?a=/foo"},
		{"/foo?a", "/foo", mesh.PathReplacePrefix, "", "/?a"},
		{"/bar", "/", mesh.PathReplacePrefix, "/xyz", "/xyz/bar"},
		{"/", "/", mesh.PathReplacePrefix, "/xyz", "/xyz/"},
		{"", "/", mesh.PathReplacePrefix, "/xyz", "/xyz"},
		{"", "/", mesh.PathReplacePrefix, "", "/"},
		{"?a", "/", mesh.PathReplacePrefix, "", "/?a"},
		{"*", "/", mesh.PathReplacePrefix, "/xyz", "*"},
		{"/foo/%2e//x", "/foo", mesh.PathReplacePrefix, "/xyz", "/xyz/%2e//x"},

		{"/full/one/two", "/full/one", mesh.PathReplaceFull, "/one", "/one"},
		{"/full/one?q=1&r", "/full", mesh.PathReplaceFull, "/one", "/one?q=1&r"},
		{"/x", "/", mesh.PathReplaceFull, "/", "/"},
		{"*", "/", mesh.PathReplaceFull, "/one", "*"},

		{"/keep?this", "/", mesh.PathKeep, "", "/keep?this"},
	} {
		r := &Request{Method: "GET", Path: tc.path}
		a, hit := action(t, rewriting(tc.prefix, tc.kind, tc.to), r)
		if got := string(a.AppendTarget([]byte("kept:"), r, hit)); got != "kept:"+tc.want {
			t.Errorf("%s, prefix %s replaced by %q: %s, want %s", tc.path, tc.prefix, tc.to, got, tc.want)
		}
		if a.RewritesTarget() != (tc.kind != mesh.PathKeep) {
			t.Errorf("%s: RewritesTarget() = %v, want %v", tc.path, a.RewritesTarget(), tc.kind != mesh.PathKeep)
		}
	}
}

func TestRewriteKeepsCONNECT(t *testing.T) {
	r := &Request{Method: "CONNECT", Authority: "echo:80"}
	a, hit := action(t, rewriting("/", mesh.PathReplaceFull, "/x"), r)
	if got := string(a.AppendTarget(nil, r, hit)); got != "" {
		t.Errorf("CONNECT: target %q, want none", got)
	}
}

// TestLocation has the cases of the conformance tests and some corner cases.
func TestLocation(t *testing.T) {
	plain := Request{Method: "GET", Scheme: "http", Authority: "echo:1234", Path: "/p?q=1"}
	tls := plain
	tls.Scheme = "https"
	full := func(to string) mesh.PathRewrite { return mesh.PathRewrite{Kind: mesh.PathReplaceFull, Value: to} }
	part := func(to string) mesh.PathRewrite {
		return mesh.PathRewrite{Kind: mesh.PathReplacePrefix, Value: to}
	}
	for name, tc := range map[string]struct {
		redirect mesh.RouteRedirect
		request  Request
		port     uint16
		want     string
	}{
		"nothing given, port 80":    {mesh.RouteRedirect{}, plain, 80, "http://echo/p?q=1"},
		"nothing given, port 8080":  {mesh.RouteRedirect{}, plain, 8080, "http://echo:8080/p?q=1"},
		"nothing given, tls":        {mesh.RouteRedirect{}, tls, 443, "https://echo/p?q=1"},
		"nothing given, tls 80":     {mesh.RouteRedirect{}, tls, 80, "https://echo:80/p?q=1"},
		"port 80":                   {mesh.RouteRedirect{Port: 80}, plain, 8080, "http://echo/p?q=1"},
		"port 8083":                 {mesh.RouteRedirect{Port: 8083}, plain, 80, "http://echo:8083/p?q=1"},
		"port 443 of http":          {mesh.RouteRedirect{Port: 443}, plain, 80, "http://echo:443/p?q=1"},
		"scheme https":              {mesh.RouteRedirect{Scheme: "https"}, plain, 8080, "https://echo/p?q=1"},
		"scheme https and 443":      {mesh.RouteRedirect{Scheme: "https", Port: 443}, plain, 80, "https://echo/p?q=1"},
		"scheme https and 8443":     {mesh.RouteRedirect{Scheme: "https", Port: 8443}, plain, 80, "https://echo:8443/p?q=1"},
		"scheme http of tls":        {mesh.RouteRedirect{Scheme: "http"}, tls, 443, "http://echo/p?q=1"},
		"scheme http, port 8080":    {mesh.RouteRedirect{Scheme: "http", Port: 8080}, tls, 443, "http://echo:8080/p?q=1"},
		"hostname":                  {mesh.RouteRedirect{Hostname: "example.org"}, plain, 80, "http://example.org/p?q=1"},
		"hostname, port, path":      {mesh.RouteRedirect{Hostname: "example.org", Port: 8083, Path: full("/x")}, plain, 80, "http://example.org:8083/x?q=1"},
		"prefix":                    {mesh.RouteRedirect{Path: part("/x")}, plain, 80, "http://echo/x/p?q=1"},
		"no authority":              {mesh.RouteRedirect{}, Request{Path: "/p"}, 80, "/p"},
		"no authority but hostname": {mesh.RouteRedirect{Hostname: "example.org"}, Request{Path: "/p"}, 80, "http://example.org/p"},
		"no authority, and a path that looks like one": {mesh.RouteRedirect{}, Request{Path: "//evil.org/"}, 80, "/.//evil.org/"},
		"IPv6":                     {mesh.RouteRedirect{}, Request{Authority: "[2001:db8::1]:80", Path: "/"}, 8080, "http://[2001:db8::1]:8080/"},
		"IPv6 without brackets":    {mesh.RouteRedirect{}, Request{Authority: "fd00::1:80", Path: "/"}, 8080, "/"},
		"no path":                  {mesh.RouteRedirect{}, Request{Authority: "echo", Path: ""}, 80, "http://echo/"},
		"only a query":             {mesh.RouteRedirect{}, Request{Authority: "echo", Path: "?a"}, 80, "http://echo/?a"},
		"another site in the path": {mesh.RouteRedirect{}, Request{Authority: "echo", Path: "//evil.org/"}, 80, "http://echo//evil.org/"},
		"header injection":         {mesh.RouteRedirect{}, Request{Authority: "e\r\nx", Path: "/a\r\nb: c\x00\"é"}, 80, "http://e%0D%0Ax/a%0D%0Ab:%20c%00%22%C3%A9"},
		"already escaped":          {mesh.RouteRedirect{}, Request{Authority: "echo", Path: "/a%20b"}, 80, "http://echo/a%20b"},
	} {
		rule := rule("unused")
		rule.Filters.Redirect = &tc.redirect
		tc.redirect.Status = 302
		a, hit := action(t, rule, &tc.request)
		if a.Kind != Redirect || a.Status != 302 {
			t.Errorf("%s: kind %d with status %d, want %d with 302", name, a.Kind, a.Status, Redirect)
			continue
		}
		if got := string(a.AppendLocation([]byte("kept:"), &tc.request, hit, tc.port)); got != "kept:"+tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// FuzzTarget checks that, whatever the client sends, a rewritten target is a
// target and a Location is a single URI.
func FuzzTarget(f *testing.F) {
	f.Add("/foo/bar?x", "echo:80", "/xyz")
	f.Add("*", "", "")
	f.Add("*?0", "", "/xyz")
	f.Add("//0", ":", "/")
	f.Add("/a b\r\n", "[::1", "/")
	f.Fuzz(func(t *testing.T, path, authority, to string) {
		rewrite := rewriting("/foo", mesh.PathReplacePrefix, to)
		rewrite.Matches = append(rewrite.Matches, mesh.RouteMatch{})
		redirect := rule("unused")
		redirect.Filters.Redirect = &mesh.RouteRedirect{Status: 302, Path: mesh.PathRewrite{Kind: mesh.PathReplacePrefix, Value: to}}
		if Check(httpRoute("r", rewrite)) != nil {
			return
		}
		r := &Request{Method: "GET", Authority: authority, Path: path}
		a, hit := action(t, rewrite, r)
		target := string(a.AppendTarget(nil, r, hit))
		if (path == "" || path[0] == '/' || path[0] == '?') && !strings.HasPrefix(target, "/") {
			t.Errorf("%q became %q, want an absolute path", path, target)
		}
		if _, query, _ := strings.Cut(path, "?"); !strings.HasSuffix(target, query) {
			t.Errorf("%q became %q, want the query %q kept", path, target, query)
		}
		a, hit = action(t, redirect, r)
		location := string(a.AppendLocation(nil, r, hit, 80))
		for i := range len(location) {
			if c := location[i]; c <= ' ' || c >= 0x7f {
				t.Fatalf("Location %q has the byte %#x, want printable ASCII only", location, c)
			}
		}
		if u, err := url.Parse("http://" + authority + "/"); err == nil && u.Host == authority && authority != "" && strings.HasPrefix(path, "/") {
			if got, err := url.Parse(location); err == nil && got.Hostname() != u.Hostname() {
				t.Errorf("%q %q: redirected to the host %q, want %q", authority, path, got.Hostname(), u.Hostname())
			}
		}
	})
}

func header(name, value string) mesh.HeaderField { return mesh.HeaderField{Name: name, Value: value} }

func TestHeaderEdits(t *testing.T) {
	r := rule("b")
	r.Filters.RequestHeaders = &mesh.HeaderModifier{
		Set:    []mesh.HeaderField{header("X-Set", "1"), header("x-set", "ignored")},
		Add:    []mesh.HeaderField{header("X-Add", "2"), header("X-Both", "rule")},
		Remove: []string{"X-Remove"},
	}
	r.Filters.ResponseHeaders = &mesh.HeaderModifier{Set: []mesh.HeaderField{header("Server", "")}}
	r.Backends[0].Filters.RequestHeaders = &mesh.HeaderModifier{
		Set:    []mesh.HeaderField{header("X-Remove", "back"), header("x-both", "backend")},
		Add:    []mesh.HeaderField{header("x-set", "more")},
		Remove: []string{"X-ADD"},
	}
	r.Backends = append(r.Backends, mesh.RouteBackend{Service: mesh.ServicePortRef{Name: "c", Port: 1}, Weight: 1})
	hit, _ := compile(t, httpRoute("r", r)).Match(request("GET echo/"))
	got := hit.Rule.Choose(0)
	want := Edits{
		Remove: []string{"x-set", "x-remove", "x-both", "x-add"},
		Add:    []mesh.HeaderField{header("x-set", "1"), header("x-remove", "back"), header("x-both", "backend"), header("x-set", "more")},
	}
	if diff := cmp.Diff(want, got.Request); diff != "" {
		t.Errorf("both sets of filters (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Edits{Remove: []string{"server"}, Add: []mesh.HeaderField{header("server", "")}}, got.Response); diff != "" {
		t.Errorf("response (-want +got):\n%s", diff)
	}
	want = Edits{
		Remove: []string{"x-set", "x-remove"},
		Add:    []mesh.HeaderField{header("x-set", "1"), header("x-add", "2"), header("x-both", "rule")},
	}
	if diff := cmp.Diff(want, hit.Rule.Choose(math.MaxUint64).Request); diff != "" {
		t.Errorf("the other backend must not get the first one's filters (-want +got):\n%s", diff)
	}
	if plain, _ := action(t, rule("b"), request("GET echo/")); !plain.Request.Empty() || got.Request.Empty() {
		t.Errorf("Empty() = %v without edits and %v with edits, want true and false", plain.Request.Empty(), got.Request.Empty())
	}
}

// TestWeights checks that, over all random numbers, each backend gets exactly its
// share.
func TestWeights(t *testing.T) {
	r := mesh.RouteRule{Backends: []mesh.RouteBackend{
		{Service: mesh.ServicePortRef{Name: "none", Port: 1}},
		{Service: mesh.ServicePortRef{Name: "seventy", Port: 1}, Weight: 70},
		{Service: mesh.ServicePortRef{Name: "gone"}, Weight: 20, Invalid: "no such Service"},
		{Service: mesh.ServicePortRef{Name: "ten", Port: 1}, Weight: 10},
	}}
	hit, _ := compile(t, httpRoute("r", r)).Match(request("GET echo/"))
	count := map[string]int{}
	const steps = 100_000
	for i := range uint64(steps) {
		a := hit.Rule.Choose(i*(math.MaxUint64/steps) + rand.Uint64N(1000))
		name := a.Backend.Name
		if a.Kind == Refuse {
			name = a.Why
		}
		count[name]++
	}
	hit.Rule.Choose(math.MaxUint64)
	for name, want := range map[string]int{"none": 0, "seventy": 70_000, "no such Service": 20_000, "ten": 10_000} {
		if d := count[name] - want; d < -2 || d > 2 {
			t.Errorf("%s: %d of %d, want %d", name, count[name], steps, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	invalidFilter := rule("b")
	invalidFilter.Filters.Invalid = "no such filter"
	zero := rule("b")
	zero.Backends[0].Weight = 0
	redirectAndInvalid := invalidFilter
	redirectAndInvalid.Filters.Redirect = &mesh.RouteRedirect{Status: 301}
	for name, r := range map[string]mesh.RouteRule{
		"filter": invalidFilter, "filter and redirect": redirectAndInvalid, "weight 0": zero, "no backend": {},
	} {
		if a, _ := action(t, r, request("GET echo/")); a.Kind != Refuse || a.Why == "" {
			t.Errorf("%s: kind %d, why %q; want a refusal that says why", name, a.Kind, a.Why)
		}
	}
}

func TestMirrorsAndFaults(t *testing.T) {
	r := rule("b")
	to := mesh.ServicePortRef{Name: "copy", Port: 1}
	r.Filters.Mirrors = []mesh.RouteMirror{
		{Service: to},
		{Service: to, Share: mesh.Fraction{Numerator: 0, Denominator: 100}},
		{Service: to, Share: mesh.Fraction{Numerator: 1, Denominator: 3}},
	}
	r.Filters.Fault = &mesh.RouteFault{
		Delay: time.Second, DelayShare: mesh.Fraction{Numerator: 1, Denominator: 2},
		AbortStatus: 418, AbortShare: mesh.Fraction{Numerator: 1, Denominator: 4},
	}
	a, _ := action(t, r, request("GET echo/"))
	const steps = 12_000
	var wants [3]int
	delays, aborts := 0, 0
	for i := range uint64(steps) {
		random := i * (math.MaxUint64 / steps)
		for j := range a.Mirrors {
			if a.Mirrors[j].Wants(random) {
				wants[j]++
			}
		}
		if a.Fault.Delay(random) == time.Second {
			delays++
		}
		if status, abort := a.Fault.Abort(false, random); abort && status == 418 {
			aborts++
		}
		if status, abort := a.Fault.Abort(true, random); abort {
			t.Fatalf("a gRPC call was aborted with status %d, want no abort: the fault has no gRPC status", status)
		}
	}
	near := func(what string, got, want int) {
		if got < want-2 || got > want+2 {
			t.Errorf("%s: %d of %d, want %d", what, got, steps, want)
		}
	}
	near("mirror of all", wants[0], steps)
	near("mirror of none", wants[1], 0)
	near("mirror of a third", wants[2], steps/3)
	near("delays", delays, steps/2)
	near("aborts", aborts, steps/4)
}
