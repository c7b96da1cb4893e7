package authz_test

import (
	"testing"

	. "github.com/underlane/underlane/pkg/policy/authz"
)

// TestSpellings: whatever way a path is spelled, a rule that denies it denies it, and
// a rule that allows another one does not let it through.
func TestSpellings(t *testing.T) {
	open := Options{Default: ModeAllUnauthenticated}
	deny := compile(t, open, policy("d", ActionDeny, Rule{To: []Operation{{Paths: []Match{{Prefix, "/admin"}}}}}))
	denyOthers := compile(t, open, policy("d", ActionDeny, Rule{To: []Operation{{NotPaths: []Match{{Prefix, "/public/"}}}}}))
	allow := compile(t, Options{}, policy("a", ActionAllow, Rule{To: []Operation{{Paths: []Match{{Prefix, "/public/"}}}}}))
	allowOthers := compile(t, Options{}, policy("a", ActionAllow, Rule{To: []Operation{{NotPaths: []Match{{Prefix, "/admin"}}}}}))
	for _, path := range []string{
		"/admin", "/admin/x", "//admin", "/./admin", "/x/../admin", "/%61dmin", "/%61%64min?q", `/x\..\admin`, `\admin`,
		"/x/%2e%2e/admin", "/x%2f..%2fadmin", "/public/../admin", "/public/%2e%2e/admin", `/public/..\admin`, "/public/..%5cadmin", "/public//../../admin",
		"/public/..;/admin", "/public/..;x=1/admin", "/public/a;b/..;c/..;d/admin", "/;/admin", "/.;/admin", "/public/%2e%2e;/admin",
	} {
		for name, set := range map[string]*Set{"deny": deny, "deny others": denyOthers, "allow": allow, "allow others": allowOthers} {
			if got := set.DecideRequest(from(""), call("GET", path)); got.Verdict != Deny {
				t.Errorf("%s: %s: got %+v, want it denied", name, path, got.Outcome)
			}
		}
	}
	for _, path := range []string{"/public/", "/public/a", "/public/a/b/../c", "/public/a%20b", "/public/.well-known", "/public/a;b=c/d"} {
		for name, set := range map[string]*Set{"deny": deny, "deny others": denyOthers, "allow": allow, "allow others": allowOthers} {
			if got := set.DecideRequest(from(""), call("GET", path)); got.Verdict != Allow {
				t.Errorf("%s: %s: got %+v, want it allowed", name, path, got.Outcome)
			}
		}
	}
}

// TestParameters: a path with parameters matches like one without them too where that refuses.
// A rule that allows exactly this spelling allows it.
func TestParameters(t *testing.T) {
	for name, tc := range map[string]struct {
		action Action
		to     Operation
		path   string
		want   Verdict
	}{
		"deny":               {ActionDeny, Operation{Paths: exact("/admin")}, "/admin;x=1", Deny},
		"deny this spelling": {ActionDeny, Operation{Paths: exact("/admin;x=1")}, "/admin;x=1", Deny},
		"allow not":          {ActionAllow, Operation{NotPaths: exact("/admin")}, "/admin;x=1", Deny},
		"allow":              {ActionAllow, Operation{Paths: exact("/a")}, "/a;x=1", Deny},
		"allow a prefix":     {ActionAllow, Operation{Paths: []Match{{Prefix, "/map;v="}}}, "/map;v=1/..;/..;/admin", Deny},
		"allow exactly that": {ActionAllow, Operation{Paths: exact("/a;x=1")}, "/a;x=1", Allow},
	} {
		set := compile(t, Options{Default: ModeAllUnauthenticated}, policy("p", tc.action, Rule{To: []Operation{tc.to}}))
		if got := set.DecideRequest(from(""), call("GET", tc.path)); got.Verdict != tc.want {
			t.Errorf("%s: got %+v, want %v", name, got.Outcome, tc.want)
		}
	}
}

// TestMethodCase: applications may read a method in any case of letters.
func TestMethodCase(t *testing.T) {
	for name, tc := range map[string]struct {
		action Action
		to     Operation
	}{
		"deny":      {ActionDeny, Operation{Methods: exact("DELETE")}},
		"deny not":  {ActionDeny, Operation{NotMethods: exact("GET")}},
		"allow":     {ActionAllow, Operation{Methods: exact("DELETE")}},
		"allow not": {ActionAllow, Operation{NotMethods: exact("DELETE")}},
	} {
		set := compile(t, Options{Default: ModeAllUnauthenticated}, policy("p", tc.action, Rule{To: []Operation{tc.to}}))
		for _, method := range []string{"delete", "Delete"} {
			if got := set.DecideRequest(from(""), call(method, "/")); got.Verdict != Deny {
				t.Errorf("%s: %s: got %+v, want it denied", name, method, got.Outcome)
			}
		}
	}
}

// TestHosts: an authority of which servers may make different hosts is read in the way
// that refuses.
func TestHosts(t *testing.T) {
	open := Options{Default: ModeAllUnauthenticated}
	hosts := append(exact("shop"), Match{Suffix, ".shop"}, Match{Exact, "[fd00::1]"})
	sets := []*Set{
		compile(t, Options{}, policy("p", ActionAllow, Rule{To: []Operation{{Hosts: hosts}}})),
		compile(t, Options{}, policy("p", ActionAllow, Rule{To: []Operation{{NotHosts: hosts}}})),
		compile(t, open, policy("p", ActionDeny, Rule{To: []Operation{{Hosts: hosts}}})),
		compile(t, open, policy("p", ActionDeny, Rule{To: []Operation{{NotHosts: hosts}}})),
	}
	for authority, want := range map[string]string{ // those sets that allow it
		"shop": "1001", "SHOP:80": "1001", "shop.": "1001", "a.Shop:": "1001", "[fd00::1]:80": "1001",
		"shops": "0110", "[fd00::2]": "0110", "fd00::1": "0110", "10.1.2.3:80": "0110",
		"a@shop": "0000", "shop@evil": "0000", "shop:80:80": "0000", "evil:80@shop": "0000", "[fd00::1": "0000", "[fd00::1]evil": "0000",
		"": "0000", ":80": "0000", "[evil]": "0000", "shop/": "0000", "shop:http": "0000", "%73hop": "0000", `shop\evil`: "0000",
	} {
		got := ""
		for _, set := range sets {
			r := call("GET", "/")
			r.Authority = authority
			got += map[Verdict]string{Deny: "0", Allow: "1"}[set.DecideRequest(from(""), r).Verdict]
		}
		if got != want {
			t.Errorf("%q: got %s, want %s (allow, allow not, deny, deny not)", authority, got, want)
		}
	}
}

// TestMatches has the kinds of match.
func TestMatches(t *testing.T) {
	const yes, no = Allow, Deny
	for _, tc := range []struct {
		m    Match
		path string
		want Verdict
	}{
		{Match{Exact, "/info"}, "/info", yes},
		{Match{Exact, "/info"}, "/info/", no},
		{Match{Exact, "/a%20b"}, "/a%20b", yes},
		{Match{Exact, "*"}, "*", yes},
		{Match{Prefix, "/info"}, "/information?a=b", yes},
		{Match{Prefix, "/info/"}, "/info", no},
		{Match{Suffix, ".php"}, "/a/b.php", yes},
		{Match{Suffix, ".php"}, "/a/b.php/c", no},
		{Match{Present, ""}, "/", yes},
		{Match{Regex, "/v[12]/.*"}, "/v1/x", yes},
		{Match{Regex, "/v1"}, "/v12", no},
		{Match{Regex, "/a|/b"}, "/bx", no},
		// From Istio's documentation of path templates.
		{Match{Template, "/foo/{*}"}, "/foo/bar", yes},
		{Match{Template, "/foo/{*}"}, "/foo/bar/baz", no},
		{Match{Template, "/foo/{*}"}, "/foo/", no},
		{Match{Template, "/foo/{**}/"}, "/foo/bar/", yes},
		{Match{Template, "/foo/{**}/"}, "/foo/bar/baz.txt/", yes},
		{Match{Template, "/foo/{**}/"}, "/foo/bar", no},
		{Match{Template, "/foo/{*}/bar/{**}"}, "/foo/buzz/bar/", yes},
		{Match{Template, "/foo/{*}/bar/{**}"}, "/foo/buzz/bar/baz", yes},
		{Match{Template, "/foo/{*}/bar/{**}"}, "/foo/bar/baz", no},
	} {
		set := compile(t, Options{}, policy("a", ActionAllow, Rule{To: []Operation{{Paths: []Match{tc.m}}}}))
		if got := set.DecideRequest(from(""), call("GET", tc.path)).Verdict; got != tc.want {
			t.Errorf("%v and %s: got %v, want %v", tc.m, tc.path, got, tc.want)
		}
	}
}

// TestRepeatedHeader: a header that is sent twice, or by a name that some servers take for the same, is
// read in the way that refuses.
func TestRepeatedHeader(t *testing.T) {
	user := Condition{Kind: ConditionHeader, Name: "x-role", Values: exact("user")}
	notUser := Condition{Kind: ConditionHeader, Name: "x-role", NotValues: exact("user")}
	for name, tc := range map[string]struct {
		a    Action
		when Condition
		once fields // what the rule matches
		want Verdict
	}{
		"allow": {ActionAllow, user, fields{{"x-role", "user"}}, Allow}, "deny": {ActionDeny, user, fields{{"x-role", "user"}}, Deny},
		"allow not": {ActionAllow, notUser, fields{{"x-role", "admin"}}, Allow}, "deny not": {ActionDeny, notUser, fields{{"x-role", "admin"}}, Deny},
		"allow not, absent": {ActionAllow, notUser, nil, Allow}, "deny not, absent": {ActionDeny, notUser, nil, Deny},
	} {
		set := compile(t, Options{Default: ModeAllUnauthenticated}, policy("p", tc.a, Rule{When: []Condition{tc.when}}))
		r := call("GET", "/")
		r.Fields = &tc.once
		if got := set.DecideRequest(from(""), r); got.Verdict != tc.want || got.Why != WhyRule {
			t.Errorf("%s, once: got %+v, want %v by the rule", name, got.Outcome, tc.want)
		}
		for what, sent := range map[string]fields{
			"twice": {{"x-role", "user"}, {"x-role", "admin"}}, "also by a name that is alike": {{"x-role", "user"}, {"x_role", "admin"}},
			"only by a name that is alike": {{"x_role", "user"}},
		} {
			r.Fields = &sent
			if got := set.DecideRequest(from(""), r); got.Verdict != Deny {
				t.Errorf("%s, %s: got %+v, want it denied", name, what, got.Outcome)
			}
		}
	}
}
