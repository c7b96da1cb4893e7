package e2e

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/lab"
)

func ownSources(sources string) string {
	return `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: who, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: ALLOW
  enforcementLevel: Network
  rules: [{sources: [` + sources + `]}]
`
}

func istioSource(source string) string {
	return "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: who, namespace: default}\nspec: {selector: {matchLabels: {app: server}}, rules: [{from: [{source: {" + source + "}}]}]}\n"
}

func linkerdWho(spec string) string {
	return linkerdServer("server-8080", 8080) + linkerdServer("server-7000", 7000) +
		"---\napiVersion: policy.linkerd.io/v1alpha1\nkind: MeshTLSAuthentication\nmetadata: {name: web, namespace: default}\nspec: {" + spec + "}\n"
}

// status makes a request on a connection of its own.
func (d *podDialer) status(t *testing.T, addr string, http2 bool) (code int, reason string) {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	client := &http.Transport{Protocols: p, DialContext: d.DialContext}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/", nil)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	resp, err := client.RoundTrip(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Underlane-Reason")
}

// echoes reports whether a server sends opaque bytes back.
func (d *podDialer) echoes(addr string) bool {
	c, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	return echo(c, c.(*podConn).r, "\x00\x01let me in") == nil
}

// TestPolicyIdentities: accounts of one name in several namespaces, namespaces whose names begin
// alike, and names of another trust domain are told apart by the policies of each language, in
// HTTP/1, HTTP/2 and for opaque connections, of clients of the server's node and of another.
func TestPolicyIdentities(t *testing.T) {
	t.Parallel()
	var pods []podSpec
	var names []string
	accounts := map[string]string{} // who a pod is, by NAMESPACE/POD
	for _, ns := range []string{"default", "a", "a-b"} {
		for _, account := range []string{"x", "x-y"} {
			for node, place := range map[string]string{node1: "far", node2: "near"} {
				p := clientPod(account+"-"+place, node)
				p.Namespace, p.Account = ns, account
				pods, names = append(pods, p), append(names, ns+"/"+p.Name)
				accounts[ns+"/"+p.Name] = ns + "/" + account
			}
		}
	}
	l := lab.Up(t, lab.Options{}, manifests(append(pods, serverPod("server", node2))...))
	waitEnrolled(t, l, append(names, "default/server")...)
	server := l.Pod("server").IP()
	web, opaque := addrPort(server, 8080), addrPort(server, 7000)
	from := map[string]*podDialer{}
	for client := range accounts {
		from[client] = dialFrom(t, l, client)
	}
	const linkerdDomain = ".serviceaccount.identity.linkerd.cluster.local"
	for _, tc := range []struct{ name, rules, want string }{
		{"ours, of a namespace", ownSources(`{type: ServiceAccount, serviceAccount: {namespace: a, name: x}}`), "a/x"},
		{"ours, of the policy's namespace", ownSources(`{type: ServiceAccount, serviceAccount: {name: x}}`), "default/x"},
		{"ours, all of a namespace", ownSources(`{type: ServiceAccount, serviceAccount: {namespace: a, name: "*"}}`), "a/x a/x-y"},
		{"ours, SPIFFE", ownSources(`{type: SPIFFE, spiffe: "spiffe://cluster.local/ns/a/sa/x"}`), "a/x"},
		{"ours, another trust domain", ownSources(`{type: SPIFFE, spiffe: "spiffe://elsewhere.example/ns/a/sa/x"}`), ""},
		{"ours, another case", ownSources(`{type: SPIFFE, spiffe: "spiffe://cluster.local/ns/A/sa/x"}`), ""},
		{"istio, a principal", istioSource(`principals: [cluster.local/ns/a/sa/x]`), "a/x"},
		{"istio, of any trust domain", istioSource(`principals: ["*/ns/a/sa/x"]`), "a/x"},
		{"istio, another trust domain", istioSource(`principals: [elsewhere.example/ns/a/sa/x]`), ""},
		{"istio, a prefix", istioSource(`principals: ["cluster.local/ns/a/*"]`), "a/x a/x-y"},
		{"istio, a namespace", istioSource(`namespaces: [a]`), "a/x a/x-y"},
		{"istio, a prefix of namespaces", istioSource(`namespaces: ["a*"]`), "a/x a/x-y a-b/x a-b/x-y"},
		{"istio, accounts", istioSource(`serviceAccounts: [a/x, x]`), "a/x default/x"},
		{"istio, not a namespace", istioSource(`notNamespaces: [a, default]`), "a-b/x a-b/x-y"},
		{"linkerd, an identity", linkerdWho(`identities: [x.a` + linkerdDomain + `]`), "a/x"},
		{"linkerd, of a namespace", linkerdWho(`identities: ["*.a` + linkerdDomain + `"]`), "a/x a/x-y"},
		{"linkerd, another trust domain", linkerdWho(`identities: [x.a.serviceaccount.identity.linkerd.elsewhere.example]`), ""},
		{"linkerd, an account", linkerdWho(`identityRefs: [{kind: ServiceAccount, namespace: a, name: x}]`), "a/x"},
		{"linkerd, an account here", linkerdWho(`identityRefs: [{kind: ServiceAccount, name: x}]`), "default/x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l.Apply(tc.rules)
			defer l.Delete(tc.rules)
			want := strings.Fields(tc.want)
			letIn := func(client string) (in []bool) {
				for _, http2 := range []bool{false, true} {
					code, reason := from[client].status(t, web, http2)
					// A request that comes while its connection is cut may fail in another way, once.
					for limit := time.Now().Add(patience); code != 200 && reason != "policy-denied" && time.Now().Before(limit); {
						code, reason = from[client].status(t, web, http2)
					}
					if in = append(in, code == 200); code != 200 && reason != "policy-denied" {
						t.Errorf("%s, HTTP/2 %v: got %d %q", client, http2, code, reason)
					}
				}
				return append(in, from[client].echoes(opaque))
			}
			l.Eventually(patience, func() error { // default/x-y is let in by none
				if slices.Contains(letIn("default/x-y-far"), true) {
					return fmt.Errorf("the policy is not in force")
				}
				return nil
			})
			var all sync.WaitGroup
			for client, account := range accounts {
				all.Go(func() {
					if in := letIn(client); slices.Contains(in, !slices.Contains(want, account)) {
						t.Errorf("%s (%s): let in %v (HTTP/1, HTTP/2, opaque), want %v", client, account, in, slices.Contains(want, account))
					}
				})
			}
			all.Wait()
		})
	}

	// Two more roots that are trusted: one signs for the mesh's trust domain, one for its own.
	partner, stranger := openCA(t, t.TempDir(), trustDomain), openCA(t, t.TempDir(), "elsewhere.example")
	var roots []byte
	for _, ca := range []*ca.Directory{partner, stranger} {
		roots = append(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Anchors()[0].Raw})...)
	}
	if err := os.WriteFile(filepath.Join("/run", l.Name(), "controller", "ca", "anchors.d", "partner.pem"), roots, 0o600); err != nil {
		t.Fatal(err)
	}
	l.Apply(ownSources(`{type: ServiceAccount, serviceAccount: {namespace: a, name: "*"}}`))
	alien := identityOf("a", "x")
	alien.TrustDomain = "elsewhere.example"
	good, foreign := certificate(t, partner, identityOf("a", "x"), time.Hour), certificate(t, stranger, alien, time.Hour)
	l.Eventually(patience, func() error {
		_, err := talkAsMesh(t, l.Pod("a/x-far").Netns, server, good, mtls.ALPNHTTP1)
		return err
	})
	for _, alpn := range []string{mtls.ALPNHTTP1, mtls.ALPNMux, mtls.ALPNHTTP2, mtls.ALPNStreams, mtls.ALPNTCP} {
		for _, pod := range []string{"a/x-far", "a/x-near"} {
			if _, err := talkAsMesh(t, l.Pod(pod).Netns, server, foreign, alpn); err == nil {
				t.Errorf("%s from %s: an identity of another trust domain is let in", alpn, pod)
			}
		}
	}
}
