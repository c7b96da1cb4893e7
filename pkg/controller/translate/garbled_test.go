package translate_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
)

const garbledPods = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {underlane.io/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
spec:
  nodeName: n1
  containers: [{name: main, ports: [{name: http, containerPort: 8080}, {name: admin, containerPort: 9090}]}]
status: {podIP: 10.0.0.1}
`

// garbledKeys are the public keys of an issuer (RFC 8037 appendix A.2), and the tokens are signed by it.
const garbledKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

const linkerdPolicy = "apiVersion: policy.linkerd.io/v1alpha1\nkind: "

// garbledObjects are policies of all languages, limits and what belongs to them. Each is about the
// pod api, and each field that is read is in one of them.
var garbledObjects = map[string][]string{
	"ours": {`apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: api}, matchExpressions: [{key: app, operator: In, values: [api]}]}}]
  action: ALLOW
  enforcementLevel: Application
  rules:
    - name: web
      sources: [{type: ServiceAccount, serviceAccount: {name: web, namespace: shop}}, {type: SPIFFE, spiffe: "spiffe://cluster.local/ns/ops/sa/web"}]
      networkAttributes: {ports: [8080]}
      authorization: {type: Inline, methods: [GET], paths: [{type: PathPrefix, value: /v1}], hosts: [shop.example], headers: [{name: x-role, type: Exact, value: admin}]}
    - networkAttributes: {ports: [7000]}
    - {networkAttributes: {ports: [9090]}, authorization: {type: CEL, cel: {expression: 'request.method == "GET"'}}}
`, `apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: api}}}]
  action: DENY
  enforcementLevel: Application
  rules:
    - sources: [{type: ServiceAccount, serviceAccount: {name: web, namespace: shop}}]
      networkAttributes: {ports: [8080]}
      authorization: {type: Inline, methods: [GET], paths: [{type: Exact, value: /v1/secret}], headers: [{name: x-role, value: admin}]}
`},
	"ours, network": {`apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: api}}}]
  action: ALLOW
  enforcementLevel: Network
  rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: web}}], networkAttributes: {ports: [8080]}}]
`},
	"limits": {`apiVersion: policy.underlane.io/v1alpha1
kind: RateLimitPolicy
metadata: {name: users, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: api}}}]
  scope: Cluster
  limits:
    - name: user
      requests: 50
      per: 1m
      burst: 20
      by: [{type: Header, header: x-user}, {type: Identity}]
      where: {sources: [{type: ServiceAccount, serviceAccount: {name: web}}], networkAttributes: {ports: [8080]}, authorization: {type: Inline, paths: [{type: PathPrefix, value: /v1}]}}
    - {requests: 1000}
`},
	"linkerd": {
		`apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: api, namespace: shop}
spec: {podSelector: {matchLabels: {app: api}}, port: http, proxyProtocol: HTTP/1, accessPolicy: deny}
`,
		linkerdPolicy + `AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: api}
  requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: web}, {group: policy.linkerd.io, kind: NetworkAuthentication, name: net}]
`,
		linkerdPolicy + "MeshTLSAuthentication\nmetadata: {name: web, namespace: shop}\nspec: {identities: ['web.shop.serviceaccount.identity.linkerd.cluster.local'], identityRefs: [{kind: ServiceAccount, name: web}]}\n",
		linkerdPolicy + "NetworkAuthentication\nmetadata: {name: net, namespace: shop}\nspec: {networks: [{cidr: 10.1.0.0/16, except: [10.1.2.0/24]}]}\n",
		`apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: job, namespace: shop}
spec: {server: {name: api}, client: {networks: [{cidr: 10.1.0.0/16, except: [10.1.2.0/24]}], meshTLS: {serviceAccounts: [{name: job}]}}}
`,
		linkerdPolicy + `HTTPLocalRateLimitPolicy
metadata: {name: l, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: api}
  total: {requestsPerSecond: 100}
  identity: {requestsPerSecond: 20}
  overrides: [{requestsPerSecond: 30, clientRefs: [{kind: ServiceAccount, name: web, namespace: shop}]}]
`,
	},
	"linkerd, one limit":  {"apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: api, namespace: shop}\nspec: {podSelector: {matchLabels: {app: api}}, port: 8080, accessPolicy: all-unauthenticated}\n", linkerdPolicy + "HTTPLocalRateLimitPolicy\nmetadata: {name: l, namespace: shop}\nspec: {targetRef: {group: policy.linkerd.io, kind: Server, name: api}, total: {requestsPerSecond: 100}}\n"},
	"linkerd, identities": {"apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: api, namespace: shop}\nspec: {podSelector: {matchLabels: {app: api}}, port: 8080, accessPolicy: all-unauthenticated}\n", linkerdPolicy + "HTTPLocalRateLimitPolicy\nmetadata: {name: l, namespace: shop}\nspec: {targetRef: {group: policy.linkerd.io, kind: Server, name: api}, identity: {requestsPerSecond: 100}}\n"},
	"linkerd, routes": {
		"apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: api, namespace: shop}\nspec: {podSelector: {matchLabels: {app: api}}, port: http}\n",
		`apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: read, namespace: shop}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: api}]
  hostnames: [shop.example]
  rules: [{matches: [{path: {type: PathPrefix, value: /v1}, method: GET, headers: [{name: x-role, type: Exact, value: admin}], queryParams: [{name: q, value: "1"}]}]}]
`,
		linkerdPolicy + "AuthorizationPolicy\nmetadata: {name: web, namespace: shop}\nspec: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: read}, requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]}\n",
	},
	"istio": {`apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  action: ALLOW
  rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/web], namespaces: [shop], notNamespaces: [ops], ipBlocks: [10.1.0.0/16], notIpBlocks: [10.1.2.0/24], notPrincipals: [cluster.local/ns/shop/sa/job]}}]
      to: [{operation: {ports: ["8080"], methods: [GET], paths: [/v1/*], hosts: [shop.example], notPaths: [/v1/secret], notMethods: [PUT], notHosts: [x.example], notPorts: ["9090"]}}]
      when: [{key: "request.headers[x-role]", values: [admin], notValues: [root]}]
    - {from: [{source: {serviceAccounts: [shop/job], notServiceAccounts: [shop/web]}}], to: [{operation: {ports: ["7000"]}}]}
    - {from: [{source: {requestPrincipals: ["i/web"], notRequestPrincipals: ["i/job"]}}], to: [{operation: {ports: ["9090"]}}]}
`, `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  action: DENY
  rules:
    - from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/web], namespaces: [shop]}}]
      to: [{operation: {ports: ["8080"], methods: [GET], notPaths: [/v1/*]}}]
      when: [{key: source.namespace, values: [shop]}, {key: "request.headers[x-role]", notValues: [admin]}]
`, `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {selector: {matchLabels: {app: api}}, mtls: {mode: STRICT}, portLevelMtls: {"7000": {mode: STRICT}}}
`},
	"istio, peers": {"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict, namespace: shop}\nspec: {selector: {matchLabels: {app: api}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {\"8080\": {mode: STRICT}}}\n"},
	"istio, targets": {"apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\nspec: {clusterIP: 10.96.0.1, selector: {app: api}, ports: [{port: 80}]}\n", `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: api}]
  rules: [{from: [{source: {serviceAccounts: [shop/web]}}]}]
`},
	"istio, CUSTOM": {`apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  action: CUSTOM
  provider: {name: bouncer}
  rules: [{to: [{operation: {paths: [/v1/*]}}]}]
`},
	"istio, tokens": {`apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  jwtRules:
    - issuer: i
      audiences: [shop]
      jwks: '` + garbledKeys + `'
      fromHeaders: [{name: x-token, prefix: "T "}]
      fromParams: [token]
      fromCookies: [token]
      forwardOriginalToken: true
      outputPayloadToHeader: x-payload
      outputClaimToHeaders: [{header: x-sub, claim: sub}]
      spaceDelimitedClaims: [words]
      timeout: 2s
`},
}

// free are objects whose fields may have any name.
var free = []string{"matchLabels", "portLevelMtls"}

// silent are values about which nobody needs to be told: the parents are others' business.
var silent = []string{`HTTPRoute spec.parentRefs[0].group = "Tomorrow"`, `HTTPRoute spec.parentRefs[0].kind = "Tomorrow"`}

// enumerated are fields with values of a list.
var enumerated = []string{"action", "type", "kind", "group", "scope", "enforcementLevel", "mode", "accessPolicy", "proxyProtocol", "operator", "key", "per", "cidr"}

// garble yields copies of an object of JSON with one thing in it that is not known: a field, or a
// value of another type or of no list.
func garble(spec any, path, key string, whole func() any, set func(any), yield func(where string, copied any)) {
	try := func(where string, v any) {
		old := spec
		set(v)
		text, _ := json.Marshal(whole())
		set(old)
		var copied any
		_ = json.Unmarshal(text, &copied)
		yield(where, copied)
	}
	switch v := spec.(type) {
	case map[string]any:
		if path != "spec" {
			try(path+" = 7", 7)
		}
		if !slices.Contains(free, key) {
			more := maps.Clone(v)
			more["tomorrow"] = true
			try(path+".tomorrow", more)
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			garble(v[name], path+"."+name, name, whole, func(x any) { v[name] = x }, yield)
		}
	case []any:
		try(path+` = "tomorrow"`, "tomorrow")
		for i := range v {
			garble(v[i], fmt.Sprintf("%s[%d]", path, i), key, whole, func(x any) { v[i] = x }, yield)
		}
	default:
		try(path+" = {tomorrow: true}", map[string]any{"tomorrow": true})
		if _, is := v.(string); is && slices.Contains(enumerated, key) && !strings.Contains(path, "matchExpressions[0].key") {
			try(path+` = "Tomorrow"`, "Tomorrow")
		}
	}
}

// garbledFields are header fields.
type garbledFields map[string]string

func (f garbledFields) Next(name string, from int) (string, int, bool) {
	v, ok := f[name]
	return v, 1, ok && from == 0
}

// Alike implements authz.Fields.
func (garbledFields) Alike(string, int) (string, int, bool) { return "", 0, false }

// garbledToken returns a token of the issuer i, with another signature if it is forged.
func garbledToken(forged bool) string {
	const seed = "\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60"
	return signed([]byte(seed), `{"iss":"i","sub":"web","aud":"shop","words":"a b"}`, forged)
}

// allowance is what a call may do: 0 if it is refused, 2 if it is let in, between them if that
// depends on others; and how many such calls a second are let in.
type allowance struct {
	let  int
	rate float64
}

// allowances are those of many calls of the pod api.
func allowances(r *translate.Result) map[string]allowance {
	out := map[string]allowance{}
	spec := r.Authz["shop/api"]
	if spec == nil {
		spec = &authz.Spec{}
	}
	rules, _ := authz.CompileWorkload(spec)
	peers := map[string]authz.Peer{"nobody": {}}
	for _, id := range [][2]string{{"shop", "web"}, {"shop", "job"}, {"ops", "web"}} {
		peers[id[0]+"/"+id[1]] = authz.PeerOf(mesh.Identity{TrustDomain: "cluster.local", Namespace: id[0], ServiceAccount: id[1]})
	}
	for peer, p := range peers {
		for _, addr := range []string{"10.1.1.1", "10.1.2.1"} {
			for _, port := range []uint16{8080, 9090, 7000} {
				c := &authz.Connection{Peer: p, Port: port, Client: addrOf(addr)}
				let := map[authz.Verdict]int{authz.Ask: 1, authz.Allow: 2}
				name := fmt.Sprintf("%s at %s to %d", peer, addr, port)
				out[name+", opaque"] = allowance{let[rules.DecideRequest(c, nil).Verdict], math.Inf(1)}
				for _, method := range []string{"GET", "POST"} {
					for _, path := range []string{"/v1/x?q=1", "/v1/secret"} {
						for _, host := range []string{"shop.example", "x.example"} {
							for _, role := range []string{"", "admin"} {
								for _, principal := range []string{"", "i/web"} {
									q := &authz.Request{Method: method, Path: path, Authority: host, Principal: principal}
									if role != "" {
										q.Fields = garbledFields{"x-role": role}
									}
									a := allowance{let[rules.DecideRequest(c, q).Verdict], math.Inf(1)}
									for i := range rules.Limits() {
										if l := &rules.Limits()[i]; l.Limits(c, q) {
											a.rate = min(a.rate, l.PerSecond())
										}
									}
									if l := rules.RateLimit(port); l != nil {
										a.rate = min(a.rate, rateOf(l, c))
									}
									out[fmt.Sprintf("%s, %s %s of %s, %q, %q", name, method, path, host, role, principal)] = a
								}
							}
						}
					}
				}
			}
		}
	}
	verifier, _ := jwt.Compile(spec.Tokens)
	for _, forged := range []bool{false, true} {
		for _, place := range []string{"header", "parameter", "cookie"} {
			h := jwt.Head{Path: "/", Fields: garbledFields{}}
			switch token := garbledToken(forged); place {
			case "header":
				h.Fields = garbledFields{"x-token": "T " + token}
			case "parameter":
				h.Path = "/?token=" + token
			case "cookie":
				h.Fields = garbledFields{"cookie": "token=" + token}
			}
			j := jwt.Judge(verifier, h, jwt.NewCache[string](10, 1<<16), "", time.Unix(0, 0), false)
			a := allowance{2, math.Inf(1)}
			c := &authz.Connection{Port: 8080, Client: addrOf("10.1.1.1")}
			if j.Failure != jwt.Good || rules.DecideRequest(c, &authz.Request{Method: "GET", Path: "/"}).Verdict != authz.Allow {
				a.let = 0
			}
			out[fmt.Sprintf("a token in a %s, forged: %v", place, forged)] = a
		}
	}
	return out
}

// rateOf returns what Linkerd's limit lets a client do.
func rateOf(l *authz.RateLimit, c *authz.Connection) float64 {
	rate := func(n uint32) float64 {
		if n == 0 {
			return math.Inf(1)
		}
		return float64(n)
	}
	own := rate(l.Identity)
	for _, o := range l.Overrides {
		if slices.Contains(o.Clients, c.Peer.Identity()) && !c.Peer.Identity().IsZero() {
			own = rate(o.RequestsPerSecond)
			break
		}
	}
	return min(rate(l.Total), own)
}

// TestNothingUnknownAllowsMore: whatever is not known in a policy, a limit or what belongs to them,
// no call is let in that was not, and none more often. It is told, too.
func TestNothingUnknownAllowsMore(t *testing.T) {
	for name, objects := range garbledObjects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			translated := func(texts []string) (*translate.Result, error) {
				o, err := watch.Decode([]byte(garbledPods + "---\n" + strings.Join(texts, "---\n")))
				if err != nil {
					return nil, err
				}
				r := translate.Translate(o, "cluster.local")
				return &r, nil
			}
			base, err := translated(objects)
			if err != nil {
				t.Fatal(err)
			}
			if len(base.Problems) > 0 && name != "istio, CUSTOM" {
				t.Fatal(base.Problems)
			}
			before := allowances(base)
			some := map[int]bool{}
			for _, a := range before {
				some[a.let] = true
			}
			if len(some) < 2 && !strings.Contains(name, "limit") && !strings.Contains(name, "linkerd, identities") {
				t.Fatal("everything or nothing is let in: the objects are not in effect")
			}
			for i, text := range objects {
				if strings.Contains(text, "kind: Service\n") {
					continue
				}
				var object map[string]any
				if err := yaml.Unmarshal([]byte(text), &object); err != nil {
					t.Fatal(err)
				}
				garble(object["spec"], "spec", "", func() any { return object }, func(v any) { object["spec"] = v }, func(where string, copied any) {
					where = fmt.Sprint(object["kind"], " ", where)
					asJSON, _ := json.Marshal(copied)
					changed := slices.Clone(objects)
					changed[i] = string(bytes.ReplaceAll(asJSON, []byte("\n"), nil)) + "\n"
					got, err := translated(changed)
					if err != nil {
						t.Fatalf("%s: %v", where, err)
					}
					told := fmt.Sprint(got.Problems, got.RouteStatuses) != fmt.Sprint(base.Problems, base.RouteStatuses)
					if !told && !slices.ContainsFunc(silent, func(f string) bool { return strings.Contains(where, f) }) {
						t.Errorf("%s: nothing is told", where)
					}
					n := 0
					for call, a := range allowances(got) {
						if b := before[call]; (a.let > b.let || a.let > 0 && b.let > 0 && a.rate > b.rate) && n < 3 {
							n++
							t.Errorf("%s: %s: was %+v, is %+v", where, call, b, a)
						}
					}
				})
			}
		})
	}
}

func addrOf(text string) netip.Addr { return netip.MustParseAddr(text) }

// signed returns a JSON Web Token (RFC 7519) with this payload.
func signed(seed []byte, payload string, forged bool) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." + encode([]byte(payload))
	signature := ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(text))
	if forged {
		signature[7] ^= 1
	}
	return text + "." + encode(signature)
}
