package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// The same policies in two languages. %[1]s is the service account that may connect:
//   - at port 8080 it may GET below /v1, and POST calls of the gRPC service test.Service;
//     everybody may, by the host shop.example with the header field X-Role: admin;
//     nobody may below /v1/secret;
//   - at port 7000 it may connect;
//   - at port 7001 it may GET, so that bytes that are no request are refused.
var languages = map[string]string{
	"ours": `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: ALLOW
  enforcementLevel: Application
  rules:
    - name: read
      sources: [{type: ServiceAccount, serviceAccount: {name: %[1]s}}]
      networkAttributes: {ports: [8080]}
      authorization: {type: Inline, methods: [GET], paths: [{type: PathPrefix, value: /v1}]}
    - name: calls
      sources: [{type: ServiceAccount, serviceAccount: {name: %[1]s}}]
      networkAttributes: {ports: [8080]}
      authorization: {type: Inline, methods: [POST], paths: [{type: PathPrefix, value: /test.Service}]}
    - name: admins
      networkAttributes: {ports: [8080]}
      authorization: {type: Inline, hosts: [shop.example], headers: [{name: X-Role, value: admin}]}
    - name: echo
      sources: [{type: ServiceAccount, serviceAccount: {name: %[1]s}}]
      networkAttributes: {ports: [7000]}
    - name: requests
      sources: [{type: ServiceAccount, serviceAccount: {name: %[1]s}}]
      networkAttributes: {ports: [7001]}
      authorization: {type: Inline, methods: [GET]}
---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: DENY
  enforcementLevel: Application
  rules: [{networkAttributes: {ports: [8080]}, authorization: {type: Inline, paths: [{type: PathPrefix, value: /v1/secret}]}}]
`,
	"istio": `---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: default}
spec:
  selector: {matchLabels: {app: server}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/default/sa/%[1]s]}}]
      to:
        - operation: {ports: ["8080"], methods: [GET], paths: [/v1, /v1/*]}
        - operation: {ports: ["8080"], methods: [POST], paths: [/test.Service/*]}
        - operation: {ports: ["7000"]}
        - operation: {ports: ["7001"], methods: [GET]}
    - to: [{operation: {ports: ["8080"], hosts: [shop.example]}}]
      when: [{key: "request.headers[X-Role]", values: [admin]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: default}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{to: [{operation: {ports: ["8080"], paths: [/v1/secret, /v1/secret/*]}}]}]
`,
}

// policyCall is a request, and who may make it: those with the right account, everybody or nobody.
type policyCall struct {
	path string
	args []string
	who  string
}

var policyCalls = []policyCall{
	{"/v1/items?x=1", nil, "account"},
	{"/v1/items", []string{"-X", "POST"}, "nobody"},
	{"/v2", nil, "nobody"},
	{"/v1/secret/key", nil, "nobody"},
	{"/v1/%73ecret/key", nil, "nobody"},
	{"/v2", []string{"-H", "Host: shop.example", "-H", "X-Role: admin"}, "everybody"},
	{"/v2", []string{"-H", "Host: shop.example", "-H", "X-Role: user"}, "nobody"},
	{"/v2", []string{"-H", "Host: shop.example", "-H", "X_Role: admin"}, "nobody"},
	{"/v2", []string{"-H", "Host: shop.example", "-H", "X-Role: admin", "-H", "X_Role: user"}, "nobody"},
	{"/v1/secret", []string{"-H", "Host: shop.example", "-H", "X-Role: admin"}, "nobody"},
	{"/test.Service/Get", []string{"-X", "POST", "-H", "Content-Type: application/grpc", "-H", "TE: trailers"}, "account"},
	{"/other.Service/Get", []string{"-X", "POST", "-H", "Content-Type: application/grpc", "-H", "TE: trailers"}, "nobody"},
}

// TestPolicyLanguages: policies of ours and of Istio decide at the server's node, as
// TestLinkerdPolicies shows it of Linkerd's: for clients of the same node and of another, in
// and outside the mesh, by method, path, host, header and gRPC service, DENY before ALLOW. Bytes
// that are no request are refused where rules look at requests. A change cuts what is open.
func TestPolicyLanguages(t *testing.T) {
	t.Parallel()
	pod := func(name, node, account string) podSpec {
		p := clientPod(name, node)
		p.Account = account
		return p
	}
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	l := lab.Up(t, lab.Options{}, manifests(
		pod("web", node1, "web"), pod("web-near", node2, "web"), pod("job", node1, "job"), pod("job-near", node2, "job"),
		outsider, serverPod("server", node2),
	))
	waitEnrolled(t, l, "default/web", "default/web-near", "default/job", "default/job-near", "default/server")
	tap := startTap(t, l, node2)
	server := l.Pod("server").IP()
	http, echo, requests := addrPort(server, 8080), addrPort(server, 7000), addrPort(server, 7001)
	accounts := map[string]string{"web": "web", "web-near": "web", "job": "job", "job-near": "job", "outsider": ""}
	get := func(client, version, path string, args ...string) string {
		return l.TryExec(client, append([]string{"labtest", "get", "-i", version, "http://" + http + path}, args...)...).Stdout
	}
	spoken := func(client, to string) bool {
		r := say(l, client, to, "let me in")
		return r.Code == 0 && strings.HasSuffix(r.Stdout, "let me in")
	}
	expect := func(language, account string, calls []policyCall) {
		t.Helper()
		for client, has := range accounts {
			for _, c := range calls {
				want := c.who == "everybody" || c.who == "account" && has == account
				for _, version := range []string{"--http2=false", "--http2=true"} {
					out := get(client, version, c.path, c.args...)
					denied := " 403 Forbidden\n"
					if strings.Contains(c.path, ".Service") {
						denied = "Grpc-Status: 7\r\n"
					}
					refused := strings.Contains(out, denied) && strings.Contains(out, "Underlane-Reason: policy-denied")
					if refused == want || want && !strings.Contains(out, " 200 OK\n") {
						t.Errorf("%s: %s for %s: %s %s %q: got %q, want it let in: %v", language, account, client, version, c.path, c.args, out, want)
					}
				}
			}
			if got := spoken(client, echo); got != (has == account) {
				t.Errorf("%s: %s for %s, opaque: let in %v", language, account, client, got)
			}
			if spoken(client, requests) {
				t.Errorf("%s: %s for %s: opaque bytes are let in where requests are looked at", language, account, client)
			}
		}
		if out := l.NodeExec(node2, "labtest", "get", "-i", "http://"+http+"/probe"); !strings.Contains(out, " 200 OK\n") {
			t.Errorf("%s: a probe of the pod's own node: %s", language, out)
		}
	}
	until := func(client, answer string) {
		t.Helper()
		l.Eventually(patience, func() error {
			if out := get(client, "--http2=false", "/v1/until"); !strings.Contains(out, answer) {
				return fmt.Errorf("%s still gets %s", client, out)
			}
			return nil
		})
	}
	for _, language := range []string{"ours", "istio"} {
		policies := languages[language]
		l.Apply(fmt.Sprintf(policies, "web"))
		until("job", " 403 ")
		expect(language, "web", policyCalls)
		marker := "/denied/" + language
		get("job", "--http2=false", marker)
		e := tap.wait("the refused request", func(e event) bool { return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == marker })
		if e.Reason != "policy-denied" || e.ResponseEndEvent.HTTPStatus != 403 {
			t.Errorf("%s, in tap: got %+v", language, e)
		}

		// Another account may connect now, and what web has opened is cut.
		far, near := dialFrom(t, l, "web").raw(t, echo), dialFrom(t, l, "web-near").raw(t, echo)
		for _, c := range []*rawConn{far, near} {
			if _, err := c.Write([]byte("\x00ping\n")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 6)); err != nil {
				t.Fatal(err)
			}
		}
		l.Apply(fmt.Sprintf(policies, "job"))
		for name, c := range map[string]*rawConn{"far": far, "near": near} {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s, %s: the connection is still open", language, name)
			}
		}
		until("job", " 200 ")
		expect(language, "job", policyCalls[:1])
		l.Delete(fmt.Sprintf(policies, "job"))
		until("outsider", " 200 ")
	}

	// Only clients with an identity, by PeerAuthentication.
	l.Apply("---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict, namespace: default}\nspec: {mtls: {mode: STRICT}}\n")
	until("outsider", " 403 ")
	for client, account := range accounts {
		if got := spoken(client, echo); got != (account != "") {
			t.Errorf("PeerAuthentication, %s: let in %v", client, got)
		}
	}
}
