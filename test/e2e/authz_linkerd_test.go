package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

// linkerdServer is a Server of port of the pod "server", and who may connect to it: the
// service account web.
func linkerdServer(name string, port int) string {
	return fmt.Sprintf(`---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: %[1]s, namespace: default}
spec: {podSelector: {matchLabels: {app: server}}, port: %[2]d}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: %[1]s, namespace: default}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: %[1]s}
  requiredAuthenticationRefs: [{kind: MeshTLSAuthentication, group: policy.linkerd.io, name: web}]
`, name, port)
}

const linkerdWeb = `---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: web, namespace: default}
spec: {identityRefs: [{kind: ServiceAccount, name: %s}]}
`

// TestLinkerdPolicies: Servers and AuthorizationPolicies decide at the server's node, for
// clients of the same node and of another, in and outside the mesh, for requests and for
// opaque connections. What changes holds for open connections.
func TestLinkerdPolicies(t *testing.T) {
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
	http, echo, free := addrPort(server, 8080), addrPort(server, 7000), addrPort(server, 7001)
	get := func(client, version string) string {
		return l.TryExec(client, "labtest", "get", "-i", version, "http://"+http+"/"+client).Stdout
	}
	spoken := func(client, to string) bool {
		r := say(l, client, to, "let me in")
		return r.Code == 0 && strings.HasSuffix(r.Stdout, "let me in")
	}
	expect := func(allowed map[string]bool) {
		t.Helper()
		for client, is := range allowed {
			for _, version := range []string{"--http2=false", "--http2=true"} {
				out := get(client, version)
				if got := strings.Contains(out, " 200 OK\n"); got != is {
					t.Errorf("%s %s: got %q, want it let in: %v", client, version, out, is)
				}
				if !is && (!strings.Contains(out, " 403 Forbidden\n") || !strings.Contains(out, "Underlane-Reason: policy-denied")) {
					t.Errorf("%s %s: got %q, want 403 with the reason policy-denied", client, version, out)
				}
			}
			if got := spoken(client, echo); got != is {
				t.Errorf("%s, opaque: let in %v, want %v", client, got, is)
			}
			if !spoken(client, free) {
				t.Errorf("%s: the port without a Server is closed", client)
			}
		}
		if out := l.NodeExec(node2, "labtest", "get", "-i", "http://"+http+"/probe"); !strings.Contains(out, " 200 OK\n") {
			t.Errorf("a probe of the pod's own node: %s", out)
		}
	}
	everybody := map[string]bool{"web": true, "web-near": true, "job": true, "job-near": true, "outsider": true}
	expect(everybody)
	l.Apply(linkerdServer("http", 8080) + linkerdServer("echo", 7000) + fmt.Sprintf(linkerdWeb, "web"))
	l.Eventually(patience, func() error {
		if out := get("job", "--http2=false"); !strings.Contains(out, " 403 ") {
			return fmt.Errorf("the policies are not in force: %s", out)
		}
		return nil
	})
	expect(map[string]bool{"web": true, "web-near": true, "job": false, "job-near": false, "outsider": false})
	e := tap.wait("the refused request", func(e event) bool {
		return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == "/job" && e.ResponseEndEvent.HTTPStatus != 200
	})
	if e.Reason != "policy-denied" || e.ResponseEndEvent.HTTPStatus != 403 {
		t.Errorf("in tap: got %+v", e)
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
	waiting := map[string]chan lab.Result{}
	for _, client := range []string{"web", "web-near"} {
		for _, version := range []string{"--http2=false", "--http2=true"} {
			path := "/delay/2m?" + client + version
			ended := make(chan lab.Result, 1)
			waiting[path] = ended
			go func() {
				ended <- lab.Run(l.PodCommand(client, "labtest", "get", "-i", "--timeout", "2m", version, "http://"+http+path))
			}()
			tap.wait("a request that waits: "+path, func(e event) bool { return e.RequestInitEvent != nil && e.RequestInitEvent.Path == path })
		}
	}
	l.Apply(fmt.Sprintf(linkerdWeb, "job"))
	for path, ended := range waiting {
		select {
		case r := <-ended:
			near := strings.Contains(path, "near")
			if strings.Contains(r.Stdout, " 200 OK\n") || near && !strings.Contains(r.Stdout, "Underlane-Reason: policy-denied") {
				t.Errorf("%s: got %q, %q; want that it is cut, on the same node with the reason", path, r.Stdout, r.Stderr)
			}
		case <-time.After(patience):
			t.Errorf("%s: still waits", path)
		}
	}
	for name, c := range map[string]*rawConn{"far": far, "near": near} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: the connection is still open", name)
		}
	}
	expect(map[string]bool{"web": false, "web-near": false, "job": true, "job-near": true, "outsider": false})
	l.Annotate("pod/server", "config.linkerd.io/default-inbound-policy=all-authenticated")
	l.Eventually(patience, func() error {
		if spoken("outsider", free) {
			return fmt.Errorf("the annotation is not in force")
		}
		return nil
	})
	if !spoken("web", free) {
		t.Error("web has an identity, and is refused by all-authenticated")
	}
}
