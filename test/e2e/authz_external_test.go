package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// nginxAuthorizer allows requests with a good X-Token, and says which user that is.
const nginxAuthorizer = `
daemon off; master_process off; pid DIR/nginx.pid; error_log DIR/error.log;
events { worker_connections 128; }
http {
  access_log DIR/access.log;
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
  default_type text/plain;
  server {
    listen 8080; listen [::]:8080;
    location = /check/big { root DIR; error_page 403 /big.txt; return 403; }
    location = /big.txt { internal; root DIR; }
    location /check/login { return 302 http://login.example/; }
    location / {
      if ($http_x_token = "good") { add_header X-User alice; add_header X-Seen "$request_method $request_uri $host"; return 200 "in"; }
      add_header X-Why "no token" always;
      return 403 "the bouncer says no\n";
    }
  }
}
`

const authorizerServices = `---
apiVersion: v1
kind: Service
metadata: {name: bouncer, namespace: default}
spec: {selector: {app: bouncer}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: mute, namespace: default}
spec: {selector: {app: bystander}, ports: [{port: 80, targetPort: 7002}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: default}
spec: {selector: {app: nobody}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: default}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
`

// extensionProviders are those of an Istio's MeshConfig.
const extensionProviders = `[
{"name": "bouncer", "envoyExtAuthzHttp": {"service": "bouncer.default.svc.cluster.local", "port": 80, "timeout": "20s", "pathPrefix": "/check",
  "includeRequestHeadersInCheck": ["x-token"], "headersToUpstreamOnAllow": ["x-user", "x-seen"], "headersToDownstreamOnDeny": ["x-why", "location"]}},
{"name": "mute", "envoyExtAuthzHttp": {"service": "mute.default.svc.cluster.local", "port": 80, "timeout": "300ms"}},
{"name": "mute-open", "envoyExtAuthzHttp": {"service": "mute.default.svc.cluster.local", "port": 80, "timeout": "300ms", "failOpen": true}},
{"name": "nobody", "envoyExtAuthzHttp": {"service": "nobody.default.svc.cluster.local", "port": 80, "statusOnError": "503"}},
{"name": "odd", "envoyExtAuthzHttp": {"service": "bouncer.default.svc.cluster.local", "port": 80, "fromTheFuture": true}}]`

// customPolicies ask each provider about the requests to a path of its own.
func customPolicies() (out string) {
	for name, paths := range map[string]string{"bouncer": "/shop*, /big, /login", "mute": "/mute", "mute-open": "/open", "nobody": "/nobody", "odd": "/odd", "unknown": "/unknown"} {
		out += fmt.Sprintf(`---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask-%s, namespace: default}
spec:
  selector: {matchLabels: {asks: %s}}
  action: CUSTOM
  provider: {name: %s}
  rules: [{to: [{operation: {paths: [%s]}}]}]
`, name, name, name, paths)
	}
	return out
}

// TestExternalAuthorizer: Istio's policies with the action CUSTOM have an nginx asked, at the
// server's node, for clients of the same node and of another, in and outside the mesh, in both
// protocols. What it adds to a request arrives, what it says of a refusal, too. An authorizer
// that does not answer lets nothing through, unless it is to fail open.
func TestExternalAuthorizer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(strings.ReplaceAll(nginxAuthorizer, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "big.txt"), []byte(strings.Repeat("x", 200<<10)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // nginx may work as another user
		t.Fatal(err)
	}
	bouncer := podSpec{Name: "bouncer", Node: node1, Labels: meshed, Command: []string{"nginx", "-c", filepath.Join(dir, "nginx.conf")}, Ports: []int{8080}}
	outsider := clientPod("outsider", node1)
	outsider.Labels = nil
	pods := []podSpec{clientPod("far", node1), clientPod("near", node2), outsider, bouncer, serverPod("bystander", node1)}
	names := []string{"default/far", "default/near", "default/bouncer", "default/bystander"}
	for _, provider := range []string{"bouncer", "mute", "mute-open", "nobody", "odd", "unknown"} {
		p := serverPod("server-"+provider, node2)
		p.Labels = merge(p.Labels, map[string]string{"asks": provider})
		pods, names = append(pods, p), append(names, "default/"+p.Name)
	}
	l := lab.Up(t, lab.Options{ControllerArgs: []string{"--extension-providers=" + extensionProviders}}, manifests(pods...), authorizerServices)
	waitEnrolled(t, l, names...)
	l.Apply(customPolicies())
	get := func(client, provider string, http2 bool, path string, more ...string) string {
		args := append([]string{"labtest", "get", "-i", fmt.Sprint("--http2=", http2), "-H", "X-User: root"}, more...)
		return l.TryExec(client, append(args, "http://"+addrPort(l.Pod("server-"+provider).IP(), 8080)+path)...).Stdout
	}
	for _, provider := range []string{"bouncer", "mute", "nobody", "odd", "unknown"} {
		path := map[string]string{"bouncer": "/shop"}[provider]
		if path == "" {
			path = "/" + provider
		}
		l.Eventually(patience, func() error {
			if out := get("far", provider, false, path); !strings.Contains(out, "Underlane-Reason: ") {
				return fmt.Errorf("the policy about %s is not in force: %s", provider, out)
			}
			return nil
		})
	}
	good := []string{"-H", "X-Token: good"}
	tap := startTap(t, l, node2)
	for _, client := range []string{"far", "near", "outsider"} {
		for _, http2 := range []bool{false, true} {
			for _, c := range []struct {
				name, provider, path string
				args                 []string
				want, not            string
			}{
				{"not asked", "bouncer", "/free", nil, " 200 OK\n|\"/free\"|root", "alice"},
				{"allowed", "bouncer", "/shop?a=b", good, ` 200 OK` + "\n" + `|"X-User":["alice"]|"X-Seen":["GET/check/shop?a=b`, "root"},
				{"denied", "bouncer", "/shop", nil, " 403 Forbidden\n|Underlane-Reason: external-denied|X-Why: no token|the bouncer says no", `"hostname"`},
				{"redirected", "bouncer", "/login", good, " 302 Found\n|Location: http://login.example/|Underlane-Reason: external-denied", `"hostname"`},
				{"too large an answer", "bouncer", "/big", good, " 403 Forbidden\n|Underlane-Reason: external-unavailable", "xxxx"},
				{"a POST", "bouncer", "/shop", append([]string{"-X", "POST", "--body", "100000"}, good...), " 200 OK\n|alice|\"bodyBytes\":100000|POST/check/shop", "root"},
				{"no answer", "mute", "/mute", nil, " 403 Forbidden\n|Underlane-Reason: external-unavailable", `"hostname"`},
				{"no answer, open", "mute-open", "/open", nil, " 200 OK\n|\"/open\"", "external"},
				{"no endpoint", "nobody", "/nobody", nil, " 503 Service Unavailable\n|Underlane-Reason: external-unavailable", `"hostname"`},
				{"not understood", "odd", "/odd", good, " 403 Forbidden\n|Underlane-Reason: policy-denied", `"hostname"`},
				{"unknown", "unknown", "/unknown", good, " 403 Forbidden\n|Underlane-Reason: policy-denied", `"hostname"`},
			} {
				out := get(client, c.provider, http2, c.path, c.args...)
				plain := strings.ReplaceAll(out, " ", "")
				for _, want := range strings.Split(c.want, "|") {
					if !strings.Contains(plain, strings.ReplaceAll(want, " ", "")) {
						t.Errorf("%s, HTTP/2 %v, %s: got %s, want %q", client, http2, c.name, out, want)
					}
				}
				if strings.Contains(plain, c.not) {
					t.Errorf("%s, HTTP/2 %v, %s: got %s, and %q in it", client, http2, c.name, out, c.not)
				}
			}
			call := get(client, "bouncer", http2, "/shop", "-X", "POST", "-H", "Content-Type: application/grpc", "-H", "TE: trailers")
			if !strings.Contains(call, "Grpc-Status: 7\r\n") {
				t.Errorf("%s, HTTP/2 %v: a call that is refused: %s, want PERMISSION_DENIED", client, http2, call)
			}
		}
	}
	if out := l.NodeExec(node2, "labtest", "get", "-i", "http://"+addrPort(l.Pod("server-mute").IP(), 8080)+"/mute"); !strings.Contains(out, " 200 OK\n") {
		t.Errorf("a probe of the pod's own node: %s", out)
	}
	e := tap.wait("a refusal by the authorizer", func(e event) bool {
		return e.ResponseEndEvent != nil && strings.Contains(e.line, "external-denied") && strings.Contains(e.line, `"asked":{`)
	})
	if !strings.Contains(e.line, "ask-bouncer") {
		t.Errorf("tap does not name the policy: %s", e.line)
	}
	l.Eventually(patience, func() error {
		m := metrics(t, l, node2)
		for _, result := range []string{"allowed", "denied", "failed", "failed-open"} {
			if n := metric(m, "underlane_external_auth_duration_seconds_count", "result="+result); n < 6 {
				return fmt.Errorf("%s: counted %v times", result, n)
			}
		}
		return nil
	})
}
