package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/underlane/underlane/test/lab"
)

// expressions lets in the account web to GET below /v1, admins by a header field, and members of
// ops by a claim; nobody below /v1/secret, and nobody with a field x-bad other than no.
const expressions = `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: ALLOW
  enforcementLevel: Application
  rules:
    - name: source
      authorization:
        type: CEL
        cel: {expression: 'source.namespace == "default" && source.serviceAccount == "web" && request.method == "GET" && request.path.startsWith("/v1/") && destination.port == 8080'}
    - name: header
      authorization: {type: CEL, cel: {expression: 'request.headers["X-Role"] == "admin" && request.host == "shop.example"'}}
    - name: claim
      authorization: {type: CEL, cel: {expression: '"ops" in auth.claims.groups && auth.claims.level >= 3'}}
---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: DENY
  enforcementLevel: Application
  rules:
    - name: secret
      authorization: {type: CEL, cel: {expression: 'request.path.startsWith("/v1/secret")'}}
    - name: bad
      authorization: {type: CEL, cel: {expression: '"x-bad" in request.headers && request.headers["x-bad"] != "no"'}}
    - name: fails
      networkAttributes: {ports: [7001]}
      authorization: {type: CEL, cel: {expression: 'request.headers["x-absent"] == "1"'}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: shop, namespace: default}
spec:
  selector: {matchLabels: {app: server}}
  jwtRules: [{issuer: https://issuer.example, jwks: '%s'}]
`

// TestPolicyExpressions: conditions in CEL on the source, header fields and claims decide at the
// server's node, for clients of the same node and of another, in and outside the mesh, in both
// protocols. One that cannot be evaluated denies, and is reported. One that is not understood
// lets in nobody.
func TestPolicyExpressions(t *testing.T) {
	t.Parallel()
	issuer := &tokenIssuer{t: t}
	signer, key := issuer.key(jose.ES256)
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
	if err != nil {
		t.Fatal(err)
	}
	pod := func(name, node, account string) podSpec {
		p := clientPod(name, node)
		p.Account = account
		return p
	}
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(pod("web", node1, "web"), pod("web-near", node2, "web"), pod("job", node1, "job"), outsider, serverPod("server", node2)))
	waitEnrolled(t, l, "default/web", "default/web-near", "default/job", "default/server")
	tap := startTap(t, l, node2)
	server := l.Pod("server").IP()
	get := func(client, version string, port int, path string, args ...string) string {
		args = append([]string{"labtest", "get", "-i", version, "http://" + addrPort(server, port) + path}, args...)
		return l.TryExec(client, args...).Stdout
	}
	until := func(client, path, answer string) {
		t.Helper()
		l.Eventually(patience, func() error {
			if out := get(client, "--http2=false", 8080, path); !strings.Contains(out, answer) {
				return fmt.Errorf("%s still gets %s", client, out)
			}
			return nil
		})
	}
	l.Apply(fmt.Sprintf(expressions, keys))
	until("job", "/v1/until", " 403 ")
	bearer := func(claims map[string]any) []string {
		return []string{"-H", "Authorization: Bearer " + signer.token(claims)}
	}
	admin := []string{"-H", "Host: shop.example", "-H", "X-Role: admin"}
	for client, has := range map[string]string{"web": "web", "web-near": "web", "job": "job", "outsider": ""} {
		for _, c := range []struct {
			path string
			args []string
			who  string // the account that may, or everybody
		}{
			{"/v1/items?x=1", nil, "web"},
			{"/v1/items", []string{"-X", "POST"}, "nobody"},
			{"/v2", nil, "nobody"},
			{"/v1/../v2", nil, "nobody"}, // servers read it as /v2
			{"/v1/secret/key", nil, "nobody"},
			{"/v2/../v1/%73ecret", admin, "nobody"},
			{"/v2", admin, "everybody"},
			{"/v2", append([]string{"-H", "X-Role: user"}, admin...), "nobody"}, // repeated
			{"/v2", append([]string{"-H", "X-Bad: no"}, admin...), "everybody"},
			{"/v2", append([]string{"-H", "X-Bad: yes"}, admin...), "nobody"},
			{"/v2", bearer(map[string]any{"groups": []string{"dev", "ops"}, "level": 3}), "everybody"},
			{"/v2", bearer(map[string]any{"groups": []string{"dev", "ops"}, "level": 2}), "nobody"},
			{"/v2", bearer(map[string]any{"groups": []string{"dev"}, "level": 9}), "nobody"},
			{"/v2", bearer(map[string]any{"groups": "ops", "level": 9}), "nobody"}, // another type
		} {
			want := c.who == "everybody" || has != "" && c.who == has
			for _, version := range []string{"--http2=false", "--http2=true"} {
				out := get(client, version, 8080, c.path, c.args...)
				refused := strings.Contains(out, " 403 Forbidden\n") && strings.Contains(out, "Underlane-Reason: policy-denied")
				if refused == want || want && !strings.Contains(out, " 200 OK\n") {
					t.Errorf("%s %s %s %q: got %q, want it let in: %v", client, version, c.path, c.args, out, want)
				}
			}
		}
	}

	// A condition that fails denies, and its rule is named.
	for _, version := range []string{"--http2=false", "--http2=true"} {
		marker := "/v1/failed/" + strings.Trim(version, "-")
		if out := get("web", version, 7001, marker); !strings.Contains(out, " 403 Forbidden\n") {
			t.Errorf("the condition of a DENY rule fails, %s: got %s", version, out)
		}
		e := tap.wait("the refused request", func(e event) bool { return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == marker })
		const object = "AuthorizationPolicy.policy.underlane.io default/deny"
		if p := e.Policy; p == nil || p.Object != object || p.Rule != "fails" || p.Failed != object+", rule fails: a header field or claim is read that is absent" {
			t.Errorf("in tap: got %+v, want the rule that fails, and why", p)
		}
	}
	if n := metric(metrics(t, l, node2), "underlane_policy_expression_failures_total"); n == 0 {
		t.Error("no expression has failed, says the metric")
	}

	// What is not understood allows nothing.
	l.Apply(strings.Replace(fmt.Sprintf(expressions, keys), `source.serviceAccount == "web"`, `source.account == "web"`, 1))
	until("web", "/v1/items", " 403 ")
}
