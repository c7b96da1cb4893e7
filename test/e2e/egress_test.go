package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

const egressNetwork = `---
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {name: all, namespace: %s}
spec: {trafficPolicy: %s}
`

const egressRoutes = `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: default}
spec:
  hostnames: [web.example.com]
  parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all, port: 8080}]
  rules: [{matches: [{path: {value: /who}}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: tls, namespace: default}
spec:
  hostnames: ["*.example.com"]
  parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all, port: 8443}]
  rules: [{backendRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all}]}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: banner, namespace: default}
spec:
  parentRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all, port: 7001}]
  rules: [{backendRefs: [{group: policy.linkerd.io, kind: EgressNetwork, name: all}]}]
`

// outsideServer runs programs on node 2 at an address that is outside the cluster's
// networks, and makes it reachable from both nodes. It returns the address.
func outsideServer(t *testing.T, l *lab.Lab) string {
	t.Helper()
	const addr = "203.0.113.7"
	l.NodeExec(node2, "ip", "addr", "add", addr+"/32", "dev", "lo")
	l.NodeExec(node1, "ip", "route", "add", addr+"/32", "via", nodeOf(t, l, node2).Addrs[0].String())
	cert, key := pemFiles(t)
	for _, argv := range [][]string{
		{"labtest", "all"},
		{"openssl", "s_server", "-quiet", "-www", "-accept", "8443", "-cert", cert, "-key", key},
	} {
		cmd := l.NodeCommand(node2, argv...)
		cmd.Stdout, cmd.Stderr = nil, nil
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
		})
	}
	return addr
}

func pemFiles(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestEgress: calls to addresses outside the cluster, by curl and others, are ruled by an
// EgressNetwork and its routes at the client's node: by Host, by SNI, and for what is
// neither. The client is on the node of the server or on another one.
func TestEgress(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is needed: ", err)
	}
	free := clientPod("free", node1)
	free.Namespace = "free"
	l := lab.Up(t, lab.Options{}, `
apiVersion: v1
kind: Namespace
metadata: {name: free}
---
`+manifests(clientPod("client", node1), clientPod("near", node2), free))
	waitEnrolled(t, l, "default/client", "default/near", "free/free")
	addr := outsideServer(t, l)
	tap := startTap(t, l, node1)

	curl := func(pod, scheme, host string, port int, path string, args ...string) string {
		to := fmt.Sprintf("%s:%d:%s", host, port, addr)
		r := l.TryExec(pod, append([]string{"curl", "-sk", "-o", "/dev/null", "-D", "-", "--max-time", "50", "--resolve", to, fmt.Sprintf("%s://%s:%d%s", scheme, host, port, path)}, args...)...)
		head := strings.ToLower(r.Stdout)
		switch {
		case r.Code != 0:
			return "cut"
		case strings.Contains(head, "underlane-reason: egress-denied"):
			return "denied"
		case strings.Contains(head, " 200"):
			return "ok"
		}
		return r.String()
	}
	banner := func(pod string) string {
		if r := say(l, pod, fmt.Sprintf("%s:7001", addr), ""); r.Code == 0 && r.Stdout != "" {
			return "ok"
		}
		return "cut"
	}
	type calls struct{ web, other, path, h2, tls, wrong, banner, echo string }
	ask := func(pod string) calls {
		echo := "cut"
		if r := say(l, pod, fmt.Sprintf("%s:7000", addr), "\x00hello"); r.Code == 0 && strings.HasSuffix(r.Stdout, "hello") {
			echo = "ok"
		}
		return calls{
			web:    curl(pod, "http", "web.example.com", 8080, "/who"),
			other:  curl(pod, "http", "other.example.com", 8080, "/who"),
			path:   curl(pod, "http", "web.example.com", 8080, "/headers"),
			h2:     curl(pod, "http", "web.example.com", 8080, "/who", "--http2-prior-knowledge"),
			tls:    curl(pod, "https", "tls.example.com", 8443, "/"),
			wrong:  curl(pod, "https", "example.org", 8443, "/"),
			banner: banner(pod), echo: echo,
		}
	}
	allowed := calls{"ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"}
	l.Eventually(patience, func() error { // until the servers listen
		for _, pod := range []string{"client", "near", "free/free"} {
			if got := ask(pod); got != allowed {
				return fmt.Errorf("%s, without a network: %+v", pod, got)
			}
		}
		return nil
	})

	l.Apply(fmt.Sprintf(egressNetwork, "default", "Deny"))
	l.Eventually(patience, func() error {
		if got := curl("client", "http", "web.example.com", 8080, "/who"); got != "denied" {
			return fmt.Errorf("the network is not in force: %s", got)
		}
		return nil
	})
	for _, pod := range []string{"client", "near"} {
		if got, want := ask(pod), (calls{"denied", "denied", "denied", "denied", "cut", "cut", "cut", "cut"}); got != want {
			t.Errorf("%s, all denied: got %+v, want %+v", pod, got, want)
		}
	}
	if got := ask("free/free"); got != allowed {
		t.Errorf("another namespace: got %+v, want %+v", got, allowed)
	}
	l.Apply(egressRoutes)
	l.Eventually(patience, func() error {
		if got := banner("client"); got != "ok" {
			return fmt.Errorf("the routes are not in force: %s", got)
		}
		return nil
	})
	for _, pod := range []string{"client", "near"} {
		if got, want := ask(pod), (calls{"ok", "denied", "denied", "ok", "ok", "cut", "ok", "cut"}); got != want {
			t.Errorf("%s, with routes: got %+v, want %+v", pod, got, want)
		}
	}
	e := tap.wait("the refused name in TLS", func(e event) bool { return e.SNI == "example.org" && e.Reason != "" })
	if e.Reason != "egress-denied" {
		t.Errorf("in tap: got %s", e)
	}

	// The names are in the figures.
	l.Eventually(patience, func() error {
		out := l.Agent(node1, "edges", "pod", "-o", "json")
		for _, name := range []string{"web.example.com", "other.example.com", "tls.example.com", "example.org"} {
			if !strings.Contains(out, name+`"`) {
				return fmt.Errorf("%s is not among the edges: %s", name, out)
			}
		}
		return nil
	})

	// The global network is for namespaces that have none.
	l.Apply(fmt.Sprintf("---\napiVersion: v1\nkind: Namespace\nmetadata: {name: linkerd-egress}\n"+egressNetwork, "linkerd-egress", "Deny") +
		fmt.Sprintf(egressNetwork, "default", "Allow"))
	l.Eventually(patience, func() error {
		here, there := curl("client", "https", "example.net", 8443, "/"), curl("free/free", "https", "example.net", 8443, "/")
		if here != "ok" || there != "cut" {
			return fmt.Errorf("the namespace with a network that allows: %s, want ok; without one: %s, want cut", here, there)
		}
		return nil
	})
}
