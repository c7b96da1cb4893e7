package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// linkerdRoutes are a Server with routes: everybody may use /public, and the account web
// /admin; web may say GET /limited as often as the limit lets it.
const linkerdRoutes = `---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: http, namespace: default, labels: {tier: edge}}
spec: {podSelector: {matchLabels: {app: server}}, port: 8080}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: public, namespace: default}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}]
  rules: [{matches: [{path: {type: PathPrefix, value: /public}}]}]
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: admin, namespace: default}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: Server, name: http}]
  rules: [{matches: [{path: {type: PathPrefix, value: /admin}}]}]
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: public, namespace: default}
spec: {targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: public}, requiredAuthenticationRefs: []}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: admin, namespace: default}
spec:
  targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: admin}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]
`

const linkerdOlder = `---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: job, namespace: default}
spec:
  server: {selector: {matchLabels: {tier: edge}}}
  client: {networks: [{cidr: 0.0.0.0/0}, {cidr: "::/0"}], meshTLS: {serviceAccounts: [{name: job}]}}
`

const linkerdLimit = `---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: http, namespace: default}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: http}
  overrides: [{requestsPerSecond: 1, clientRefs: [{kind: ServiceAccount, name: web}]}]
`

// TestLinkerdRoutes: policies of routes, older authorizations and limits of requests decide
// at the server's node, for clients of the same node and of another, in both protocols.
// Probes pass, whatever route they belong to.
func TestLinkerdRoutes(t *testing.T) {
	t.Parallel()
	pod := func(name, node, account string) podSpec {
		p := clientPod(name, node)
		p.Account = account
		return p
	}
	l := lab.Up(t, lab.Options{}, manifests(
		pod("web", node1, "web"), pod("web-near", node2, "web"), pod("job", node1, "job"), pod("job-near", node2, "job"),
		serverPod("server", node2),
	))
	waitEnrolled(t, l, "default/web", "default/web-near", "default/job", "default/job-near", "default/server")
	tap := startTap(t, l, node2)
	http := addrPort(l.Pod("server").IP(), 8080)
	get := func(client, version, path string) string {
		return l.TryExec(client, "labtest", "get", "-i", version, "http://"+http+path).Stdout
	}
	// status is that of a response, with its reason.
	status := func(out string) string {
		line, rest, _ := strings.Cut(out, "\n")
		_, code, _ := strings.Cut(line, " ")
		code, _, _ = strings.Cut(code, " ")
		if _, reason, ok := strings.Cut(rest, "Underlane-Reason: "); ok {
			reason, _, _ = strings.Cut(reason, "\n")
			code += " " + strings.TrimSpace(reason)
		}
		return code
	}
	expect := func(want map[string]string) { // by "ACCOUNT PATH"
		t.Helper()
		for what, want := range want {
			account, path, _ := strings.Cut(what, " ")
			for _, client := range []string{account, account + "-near"} {
				for _, version := range []string{"--http2=false", "--http2=true"} {
					if got := status(get(client, version, path)); got != want {
						t.Errorf("%s %s %s: got %q, want %q", client, version, path, got, want)
					}
				}
			}
		}
		if out := l.NodeExec(node2, "labtest", "get", "-i", "http://"+http+"/probe?x=1"); !strings.Contains(out, " 200 OK\n") {
			t.Errorf("a probe of the pod's own node, of no route: %s", out)
		}
	}
	await := func(client, path, want string) {
		t.Helper()
		l.Eventually(patience, func() error {
			if got := status(get(client, "--http2=false", path)); got != want {
				return fmt.Errorf("%s %s: got %q, want %q", client, path, got, want)
			}
			return nil
		})
	}
	l.Apply(linkerdRoutes)
	await("job", "/none", "404 route-not-found")
	expect(map[string]string{
		"web /public": "200", "job /public/x": "200", "web /admin": "200", "job /admin": "403 policy-denied",
		"web /none": "404 route-not-found", "job /public/../admin": "404 route-not-found",
	})
	for client, is := range map[string]bool{"web": false, "web-near": false} {
		if r := say(l, client, http, "\x00let me in"); (r.Code == 0 && r.Stdout != "") != is {
			t.Errorf("%s, opaque: got %s, want it refused", client, r)
		}
	}
	e := tap.wait("the request of no route", func(e event) bool {
		return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == "/none"
	})
	if e.Reason != "route-not-found" || e.ResponseEndEvent.HTTPStatus != 404 {
		t.Errorf("in tap: got %+v", e)
	}

	l.Apply(linkerdOlder)
	await("job", "/admin", "200")
	expect(map[string]string{"web /admin": "200", "job /admin": "200", "job /none": "404 route-not-found"})

	l.Apply(linkerdLimit)
	for _, client := range []string{"web", "web-near"} {
		l.Eventually(patience, func() error { // more than one in a second
			out := l.TryExec(client, "labtest", "get", "-i", "-n", "20", "http://"+http+"/public").Stdout
			if !strings.Contains(out, "429 Too Many Requests") || !strings.Contains(out, "Underlane-Reason: rate-limited") {
				return fmt.Errorf("%s is not limited: %s", client, out)
			}
			return nil
		})
	}
	if got := status(get("job", "--http2=false", "/public")); got != "200" {
		t.Errorf("job, which no limit has: got %q", got)
	}
}
