package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// externalAuthRoute is a route to the Service server that has an authorizer asked, and another
// one that is only for /missing.
const externalAuthRoute = `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: guarded, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: server, port: 80}]
  rules:
    - matches: [{path: {value: /missing}}]
      filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, backendRef: {name: missing, port: 80}}}]
      backendRefs: [{name: server, port: 80}]
    - matches: [{path: {value: /body}}]
      filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: checker, port: 80}, grpc: {}, forwardBody: {maxSize: 40000}}}]
      backendRefs: [{name: server, port: 80}]
    - matches: [{path: {value: /http}}]
      filters:
        - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /rewritten}}}
        - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Seen, value: by the route}]}}
        - type: ExternalAuth
          externalAuth:
            protocol: HTTP
            backendRef: {name: bouncer, port: 80}
            http: {path: /check, allowedHeaders: [X-Token], allowedResponseHeaders: [X-User, X-Seen]}
      backendRefs: [{name: server, port: 80}]
    - filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: checker, port: 80}, grpc: {}}}]
      backendRefs: [{name: server, port: 80}]
`

const checkerService = `---
apiVersion: v1
kind: Service
metadata: {name: checker, namespace: default}
spec: {selector: {app: checker}, ports: [{name: grpc, port: 80, targetPort: 8080}]}
`

// TestExternalAuthFilter: the filter ExternalAuth of a route has an nginx, or a server made of
// Envoy's own definitions of the gRPC protocol, asked at the client's node, in both protocols
// of the client, for a server of the same node and of another.
func TestExternalAuthFilter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(strings.ReplaceAll(nginxAuthorizer, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // nginx may work as another user
		t.Fatal(err)
	}
	bouncer := podSpec{Name: "bouncer", Node: node1, Command: []string{"nginx", "-c", filepath.Join(dir, "nginx.conf")}, Ports: []int{8080}}
	checker := podSpec{Name: "checker", Node: node2, Labels: meshed, Command: []string{"labtest", "authorizer"}, Ports: []int{8080}}
	l := lab.Up(t, lab.Options{}, manifests(clientPod("far", node1), clientPod("near", node2), serverPod("server", node2), bouncer, checker), authorizerServices, checkerService, externalAuthRoute)
	waitEnrolled(t, l, "default/far", "default/near", "default/server", "default/checker")
	base := "http://" + addrPort(l.ServiceIPs("default/server")[0], 80)
	get := func(client string, http2 bool, path string, more ...string) string {
		args := append([]string{"labtest", "get", "-i", fmt.Sprint("--http2=", http2), "-H", "X-User: root"}, more...)
		return l.TryExec(client, append(args, base+path)...).Stdout
	}
	good := []string{"-H", "X-Token: good"}
	tap := startTap(t, l, node1)
	for _, client := range []string{"far", "near"} {
		l.Eventually(patience, func() error { // the agent hears of the route at its first use
			if out := get(client, false, "/x"); !strings.Contains(out, "external-denied") {
				return fmt.Errorf("the route is not in force: %s", out)
			}
			return nil
		})
		for _, http2 := range []bool{false, true} {
			proto, of := "HTTP/1.1", "spiffe://cluster.local/ns/default/sa/default"
			if http2 {
				proto = "HTTP/2"
			}
			for _, c := range []struct {
				name, path string
				args       []string
				want, not  string
			}{
				{"HTTP, allowed", "/http/a?b=c", good, ` 200 OK` + "\n" + `|"X-User":["alice"]|"X-Seen":["GET/check/http/a?b=c|"path":"/rewritten/a|"X-Token":["good"]`, "root"},
				{"HTTP, refused", "/http/a", nil, " 403 Forbidden\n|Underlane-Reason: external-denied|X-Why: no token|the bouncer says no", `"hostname"`},
				{"gRPC, allowed", "/a?b=c", good, ` 200 OK` + "\n" + `|"X-User":["alice"]|"X-Seen":["GET /a?b=c ` + proto + ` from ` + of + `|X-Checked:yes`, `"X-Token"`},
				{"gRPC, refused", "/a", []string{"-H", "X-Token: x"}, " 401 Unauthorized\n|Underlane-Reason: external-denied|X-Why: x|who are you?", `"hostname"`},
				{"gRPC, failed", "/a", []string{"-H", "X-Token: gone"}, " 403 Forbidden\n|Underlane-Reason: external-unavailable", "database"},
				{"gRPC, slow", "/a", []string{"-H", "X-Token: slow"}, " 403 Forbidden\n|Underlane-Reason: external-unavailable", `"hostname"`},
				{"gRPC, too large", "/a", []string{"-H", "X-Token: huge"}, " 403 Forbidden\n|Underlane-Reason: external-unavailable", `"hostname"`},
				{"no such authorizer", "/missing", good, " 500 Internal Server Error\n|Underlane-Reason: bad-backend", `"hostname"`},
				{"a call", "/a", []string{"-X", "POST", "-H", "Content-Type: application/grpc", "-H", "TE: trailers"}, "Grpc-Status: 16\r\n|Underlane-Reason: external-denied", `"hostname"`},
			} {
				out := get(client, http2, c.path, c.args...)
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
		}
	}
	sum := regexp.MustCompile(`"bodySHA256": *"([0-9a-f]+)"`)
	for _, client := range []string{"far", "near"} {
		for _, http2 := range []bool{false, true} {
			for _, size := range []int{0, 10, 3000, 40000} {
				out := get(client, http2, "/body", append([]string{"-X", "POST", "--body", fmt.Sprint(size)}, good...)...)
				if hash := sum.FindStringSubmatch(out); hash == nil || !strings.Contains(out, fmt.Sprintf("size %d body %d %s", size, size, hash[1])) {
					t.Errorf("%s, HTTP/2 %v: a body of %d: got %s, want the server and the authorizer to see it", client, http2, size, out)
				}
			}
			for _, size := range []int{40001, 300000} {
				if out := get(client, http2, "/body", append([]string{"-X", "POST", "--body", fmt.Sprint(size)}, good...)...); !strings.Contains(out, " 413 ") || !strings.Contains(out, "external-unavailable") {
					t.Errorf("%s, HTTP/2 %v: a body of %d: got %s, want 413", client, http2, size, out)
				}
			}
		}
		// In chunks, with another request behind it in the same segment.
		const two = "POST /body HTTP/1.1\r\nHost: x\r\nX-Token: good\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n" +
			"POST /body HTTP/1.1\r\nHost: x\r\nX-Token: good\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
		said := say(l, client, strings.TrimPrefix(base, "http://"), two).Stdout
		for _, want := range []string{"size 7 body 7 7d1a54127b222502f5b79b5fb0803061152a44f92b37e23c6527baf665d4da9a", "size 2 body 2 8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: in chunks: got %s, want %q", client, said, want)
			}
		}
	}
	tap.wait("a request that was asked about", func(e event) bool {
		return e.ResponseEndEvent != nil && strings.Contains(e.line, `"asked":{`) && strings.Contains(e.line, `"httpStatus":200`)
	})
}
