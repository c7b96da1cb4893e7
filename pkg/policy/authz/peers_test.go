package authz_test

import (
	"net/netip"
	"testing"

	. "github.com/underlane/underlane/pkg/policy/authz"
)

// istio are the modes under which Istio's AuthorizationPolicy is judged: without a
// policy that allows, everything is allowed; with one, what it does not match is denied.
var istio = Options{Default: ModeAllUnauthenticated, Unmatched: ModeDeny}

func ports(all ...uint16) (out []PortRange) {
	for _, p := range all {
		out = append(out, Port(p))
	}
	return out
}

// TestIstio has the examples of the reference of AuthorizationPolicy
// (security.istio.io/v1), and of the tasks on HTTP, TCP and JWT.
func TestIstio(t *testing.T) {
	principals := func(v ...string) Source { return Source{Principals: exact(v...)} }
	httpbin := policy("httpbin", ActionAllow, Rule{
		From: []Source{principals("spiffe://cluster.local/ns/default/sa/sleep"), {Namespaces: exact("test")}},
		To:   []Operation{{Methods: exact("GET"), Paths: []Match{{Prefix, "/info"}}}, {Methods: exact("POST"), Paths: exact("/data")}},
		When: []Condition{{Kind: ConditionClaim, Claim: []string{"iss"}, Values: exact("https://accounts.google.com")}},
	})
	dev := policy("dev", ActionDeny, Rule{From: []Source{{Namespaces: exact("dev")}}, To: []Operation{{Methods: exact("POST")}}})
	post := policy("post", ActionDeny, Rule{To: []Operation{{Methods: exact("POST"), Ports: ports(8080)}}})
	nothing := policy("nothing", ActionAllow)
	all := policy("all", ActionAllow, Rule{})
	onlyTest := policy("only-test", ActionDeny, Rule{From: []Source{{NotPrincipals: exact("spiffe://cluster.local/ns/test/sa/a")}}})
	meshOnly := policy("mesh", ActionAllow, Rule{From: []Source{{Principals: []Match{{Kind: Present}}}}})
	strict := policy("strict", ActionDeny, Rule{From: []Source{{NotPrincipals: []Match{{Kind: Present}}}}})
	tcpGet := policy("tcp", ActionAllow, Rule{To: []Operation{{Methods: exact("GET"), Ports: ports(9000)}}})
	tcp := policy("tcp", ActionAllow, Rule{To: []Operation{{Ports: ports(9000, 9001)}}})
	jwt := policy("jwt", ActionAllow, Rule{
		From: []Source{{RequestPrincipals: exact("testing@secure.istio.io/testing@secure.istio.io")}},
		When: []Condition{{Kind: ConditionClaim, Claim: []string{"groups"}, Values: exact("group1")}},
	})
	noToken := policy("no-token", ActionDeny, Rule{
		From: []Source{{NotRequestPrincipals: []Match{{Kind: Present}}}}, To: []Operation{{NotPaths: exact("/healthz")}},
	})
	admin := policy("admin", ActionDeny, Rule{When: []Condition{{Kind: ConditionHeader, Name: "x-token", NotValues: exact("admin")}}})
	outside := policy("outside", ActionDeny, Rule{From: []Source{{NotNetworks: []Network{{CIDR: netip.MustParsePrefix("10.0.0.0/8")}}}}})

	google := claims{{"iss", "https://accounts.google.com"}}
	groups := claims{{"groups", "group2"}, {"groups", "group1"}}
	const token = "testing@secure.istio.io/testing@secure.istio.io"
	const sent = "" // the method of opaque traffic
	for name, tc := range map[string]struct {
		policies     []Policy
		client       string
		port         uint16
		method, path string
		claims       claims
		principal    string
		fields       fields
		want         Verdict
	}{
		"no policy":                   {nil, "", 8080, "GET", "/", nil, "", nil, Allow},
		"httpbin, sleep":              {[]Policy{httpbin}, "default/sleep", 80, "GET", "/information", google, "", nil, Allow},
		"httpbin, namespace":          {[]Policy{httpbin}, "test/x", 80, "POST", "/data", google, "", nil, Allow},
		"httpbin, mixed":              {[]Policy{httpbin}, "test/x", 80, "POST", "/info", google, "", nil, Deny},
		"httpbin, no token":           {[]Policy{httpbin}, "test/x", 80, "GET", "/info", nil, "", nil, Deny},
		"httpbin, another":            {[]Policy{httpbin}, "default/web", 80, "GET", "/info", google, "", nil, Deny},
		"deny dev POST":               {[]Policy{dev}, "dev/x", 80, "POST", "/", nil, "", nil, Deny},
		"deny dev, GET":               {[]Policy{dev}, "dev/x", 80, "GET", "/", nil, "", nil, Allow},
		"deny before allow":           {[]Policy{all, dev}, "dev/x", 80, "POST", "/", nil, "", nil, Deny},
		"deny POST, TCP":              {[]Policy{post}, "dev/x", 8080, sent, "", nil, "", nil, Deny},
		"deny POST, TCP elsewhere":    {[]Policy{post}, "dev/x", 80, sent, "", nil, "", nil, Allow},
		"allow nothing":               {[]Policy{nothing}, "dev/x", 80, "GET", "/", nil, "", nil, Deny},
		"allow nothing and all":       {[]Policy{nothing, all}, "", 80, "GET", "/", nil, "", nil, Allow},
		"not a principal":             {[]Policy{onlyTest}, "test/b", 80, "GET", "/", nil, "", nil, Deny},
		"not a principal, that one":   {[]Policy{onlyTest}, "test/a", 80, "GET", "/", nil, "", nil, Allow},
		"not a principal, none":       {[]Policy{onlyTest}, "", 80, "GET", "/", nil, "", nil, Deny},
		"principal present":           {[]Policy{meshOnly}, "a/b", 80, "GET", "/", nil, "", nil, Allow},
		"principal present, none":     {[]Policy{meshOnly}, "", 80, "GET", "/", nil, "", nil, Deny},
		"PeerAuthentication STRICT":   {[]Policy{strict}, "", 80, sent, "", nil, "", nil, Deny},
		"STRICT, mTLS":                {[]Policy{strict}, "a/b", 80, sent, "", nil, "", nil, Allow},
		"TCP, allowed port":           {[]Policy{tcp}, "a/b", 9001, sent, "", nil, "", nil, Allow},
		"TCP, another port":           {[]Policy{tcp}, "a/b", 9002, sent, "", nil, "", nil, Deny},
		"TCP, GET is never":           {[]Policy{tcpGet}, "a/b", 9000, sent, "", nil, "", nil, Deny},
		"JWT":                         {[]Policy{jwt}, "", 80, "GET", "/", groups, token, nil, Allow},
		"JWT, another group":          {[]Policy{jwt}, "", 80, "GET", "/", claims{{"groups", "group2"}}, token, nil, Deny},
		"JWT, none":                   {[]Policy{jwt}, "", 80, "GET", "/", nil, "", nil, Deny},
		"token required":              {[]Policy{noToken}, "", 80, "GET", "/", nil, "", nil, Deny},
		"token required, there":       {[]Policy{noToken}, "", 80, "GET", "/", nil, token, nil, Allow},
		"token required, health":      {[]Policy{noToken}, "", 80, "GET", "/healthz", nil, "", nil, Allow},
		"header, not admin":           {[]Policy{admin}, "", 80, "GET", "/", nil, "", fields{{"x-token", "guest"}}, Deny},
		"header, admin":               {[]Policy{admin}, "", 80, "GET", "/", nil, "", fields{{"x-token", "admin"}}, Allow},
		"header, absent":              {[]Policy{admin}, "", 80, "GET", "/", nil, "", nil, Deny},
		"notIpBlocks, inside":         {[]Policy{outside}, "", 80, "GET", "/", nil, "", nil, Allow},
		"grpc, a fully qualified one": {[]Policy{policy("g", ActionAllow, Rule{To: []Operation{{Methods: exact("POST"), Paths: exact("/pkg.Svc/Get")}}})}, "", 80, "POST", "/pkg.Svc/Get", nil, "", nil, Allow},
	} {
		c := from(tc.client)
		c.Port = tc.port
		set := compile(t, istio, tc.policies...)
		got := set.DecideConnection(c).Opaque()
		if tc.method != sent {
			r := call(tc.method, tc.path)
			r.Claims, r.Principal, r.Fields = tc.claims, tc.principal, &tc.fields
			got = set.DecideRequest(c, r)
		}
		if got.Verdict != tc.want {
			t.Errorf("%s: got %+v, want %v", name, got, tc.want)
		}
	}
}

// TestLinkerd has cases of Linkerd's documentation of authorization policies: a
// Server denies what no policy authorizes, policies of a Server hold on all of its
// routes, those of a route on that one.
func TestLinkerd(t *testing.T) {
	everywhere := []Network{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}, {CIDR: netip.MustParsePrefix("::/0")}}
	meshed := policy("meshed", ActionAllow, Rule{From: []Source{{Authentication: Authenticated}}})
	voting := policy("voting", ActionAllow, Rule{From: []Source{{ServiceAccounts: []ServiceAccount{{"emojivoto", "web"}}}}})
	namespace := policy("namespace", ActionAllow, Rule{From: []Source{{ServiceAccounts: []ServiceAccount{{"emojivoto", "*"}}}}})
	anywhere := policy("anywhere", ActionAllow, Rule{From: []Source{{Networks: everywhere}}})
	kubelet := policy("kubelet", ActionAllow, Rule{
		From: []Source{{Networks: []Network{{CIDR: netip.MustParsePrefix("10.1.0.0/16"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}}}}},
		To:   []Operation{{Routes: []string{"probe"}}},
	})
	both := policy("both", ActionAllow, Rule{From: []Source{{ServiceAccounts: []ServiceAccount{{"emojivoto", "web"}}, Networks: []Network{{CIDR: netip.MustParsePrefix("192.0.2.0/24")}}}}})
	modify := policy("modify", ActionAllow, Rule{From: []Source{{ServiceAccounts: []ServiceAccount{{"booksapp", "webapp"}}}}, To: []Operation{{Routes: []string{"authors-modify"}}}})
	server := Options{}
	for name, tc := range map[string]struct {
		o        Options
		policies []Policy
		client   string
		route    string // "": opaque
		want     Verdict
	}{
		"a Server and no policy":              {server, nil, "emojivoto/web", "r", Deny},
		"accessPolicy all-unauthenticated":    {Options{Default: ModeAllUnauthenticated}, nil, "", "r", Allow},
		"accessPolicy beside a policy":        {Options{Default: ModeAllAuthenticated, Unmatched: ModeAllAuthenticated}, []Policy{voting}, "other/x", "r", Allow},
		"accessPolicy audit beside a policy":  {Options{Default: ModeAudit, Unmatched: ModeAudit}, []Policy{voting}, "", "r", Allow},
		"meshed":                              {server, []Policy{meshed}, "any/body", "r", Allow},
		"meshed, no identity":                 {server, []Policy{meshed}, "", "r", Deny},
		"service account":                     {server, []Policy{voting}, "emojivoto/web", "r", Allow},
		"service account, opaque":             {server, []Policy{voting}, "emojivoto/web", "", Allow},
		"another service account":             {server, []Policy{voting}, "emojivoto/emoji", "r", Deny},
		"all of a namespace":                  {server, []Policy{namespace}, "emojivoto/emoji", "r", Allow},
		"all networks":                        {server, []Policy{anywhere}, "", "r", Allow},
		"network, excepted":                   {server, []Policy{kubelet}, "", "probe", Deny},
		"two authentications, one holds":      {server, []Policy{both}, "emojivoto/web", "r", Deny},
		"two policies, one holds":             {server, []Policy{both, voting}, "emojivoto/web", "r", Allow},
		"a route's policy on its route":       {server, []Policy{modify}, "booksapp/webapp", "authors-modify", Allow},
		"a route's policy on another route":   {server, []Policy{modify}, "booksapp/webapp", "authors-get", Deny},
		"a route's policy, opaque traffic":    {server, []Policy{modify}, "booksapp/webapp", "", Deny},
		"a Server's policy on every route":    {server, []Policy{modify, meshed}, "booksapp/authors", "authors-modify", Allow},
		"a Server's policy beside, is opaque": {server, []Policy{modify, meshed}, "booksapp/authors", "", Allow},
	} {
		set := compile(t, tc.o, tc.policies...)
		c := from(tc.client)
		got := set.DecideConnection(c).Opaque()
		if tc.route != "" {
			r := call("GET", "/")
			r.Route = tc.route
			got = set.DecideRequest(c, r)
		}
		if got.Verdict != tc.want {
			t.Errorf("%s: got %+v, want %v", name, got, tc.want)
		}
	}
}
