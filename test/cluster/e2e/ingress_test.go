package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestIngressController runs Traefik, built from its module, with Ingresses and objects of its
// own: in a namespace of the mesh, and in one without, which is the oracle. Clients outside
// the cluster call its node ports. Of the ways in which Traefik reaches the Service, those
// that name it keep to the HTTPRoute, and all but the split is as without the mesh.
func TestIngressController(t *testing.T) {
	t.Parallel()
	const program = "traefik"
	for _, args := range [][]string{{"images", program}, {"load", filepath.Join("bin/images", program+".tar")}} {
		if err := step(args...); err != nil { // it takes minutes the first time
			t.Fatal(err)
		}
	}
	httpRoutes(t)
	traefikObjects(t)
	meshed, bare := newEdge(t, "underlane.io/mesh=enabled"), newEdge(t)
	for _, e := range []*edge{meshed, bare} {
		e.start(t)
	}
	enrolled(t, meshed.ns, podOf(t, meshed.ns, "gate"), podOf(t, meshed.ns, "web-1"), podOf(t, meshed.ns, "web-2"), podOf(t, meshed.ns, "secure"))

	if diff := cmp.Diff(bare.observations(t), meshed.observations(t)); diff != "" {
		t.Errorf("what clients and applications see (-bare +meshed):\n%s", diff)
	}
	want := arrival{Status: "200", Certificate: "field.example", Proto: "HTTP/1.1", Host: "field.example", Path: "/", For: "10.89.0.1", Scheme: "https", FromGate: true}
	if diff := cmp.Diff(want, meshed.visit(t, "https://field.example/", meshed.secure)); diff != "" {
		t.Errorf("a request with TLS (-want +got):\n%s", diff)
	}

	// The split is one to nine where the request names the Service, and nowhere else.
	named := []string{"field.example", "authority.example", "http2.example", "native.example"}
	for _, host := range append([]string{"plain.example"}, named...) {
		const n = 300
		// Bare, a connection to the ClusterIP stays with one version.
		if got := bare.share(t, host, n); got < n/3 && host != "native.example" {
			t.Errorf("%s without the mesh: version 2 got %d of %d requests, want about half", host, got, n)
		}
		got := meshed.share(t, host, n)
		t.Logf("%s: version 2 got %d of %d requests", host, got, n)
		if host == "plain.example" {
			if got < n/3 {
				t.Errorf("%s: version 2 got %d of %d requests, want about half: they name no Service", host, got, n)
			}
		} else if got < n/60 || got > n/4 {
			t.Errorf("%s: version 2 got %d of %d requests, want about a tenth", host, got, n)
		}
	}
	for _, host := range named { // version 1 is on the other node
		watched(t, []string{"-n", meshed.ns, "deploy/gate"}, func() error {
			_, err := meshed.tryVisit(t, "http://"+host+"/tapped-"+host, meshed.gate)
			return err
		}, has("req ", "proxy=out", "tls=true", ":path=/tapped-"+host))
	}

	kubectl(t, "patch", "httproute", "-n", meshed.ns, "web", "--type=json", "-p",
		`[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 0}, {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 100}]`)
	for _, host := range named {
		eventually(t, patience, func() error {
			const n = 50
			if got := meshed.share(t, host, n); got != n {
				return fmt.Errorf("%s: version 2 got %d of %d requests", host, got, n)
			}
			return nil
		})
	}

	// A client outside can neither name another Service nor reach a strict pod by itself.
	for host, want := range map[string]string{"plain.example": "502", "field.example": "200"} {
		got := meshed.visit(t, "http://"+host+"/", meshed.gate, "-H", "l5d-dst-override: secure."+meshed.ns+".svc.cluster.local:443")
		if got.Status != want {
			t.Errorf("%s with a field of the client: got %+v, want %s", host, got, want)
		}
	}
	for _, e := range []*edge{bare, meshed} {
		ip := kubectl(t, "get", "-n", e.ns, podOf(t, e.ns, "web-1"), "-o", "jsonpath={.status.podIP}")
		got, err := e.tryVisit(t, "http://direct.example/", ip+":8080")
		if refused := err != nil || got.Status != "200"; refused != (e == meshed) {
			t.Errorf("%s: a client outside at the pod's own address: got %+v, %v; want it refused in the mesh only", e.ns, got, err)
		}
	}
}

// traefikObjects installs Traefik's CustomResourceDefinitions and ClusterRole.
func traefikObjects(t *testing.T) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/traefik/traefik/v3")
	list.Dir = filepath.Join(root, "test/cluster/components/traefik")
	dir, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	docs := filepath.Join(strings.TrimSpace(string(dir)), "docs/content/reference/dynamic-configuration")
	crds, role := filepath.Join(docs, "kubernetes-crd-definition-v1.yml"), filepath.Join(docs, "kubernetes-crd-rbac.yml")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, _ = try(ctx, "", "kubectl", "--", "delete", "--wait=false", "--ignore-not-found", "-f", crds, "-f", role)
	})
	kubectl(t, "apply", "--server-side", "-f", crds, "-f", role)
	kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "-f", crds)
}

// tlsSecret returns a Secret with a certificate for host.
func tlsSecret(t *testing.T, name, host string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, &tmpl, &tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encoded := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: %s}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s}
---
`, name, encoded("CERTIFICATE", cert), encoded("PRIVATE KEY", der))
}

// edge is a namespace with Traefik and what is behind it.
type edge struct {
	ns string
	// Node ports, ADDRESS:PORT. gate and secure keep the client's address, and lead to the
	// pod of their node only; anywhere is at another node than Traefik.
	gate, secure, anywhere string
	traefik                string // the address of its pod
}

func newEdge(t *testing.T, labels ...string) *edge {
	t.Helper()
	e := &edge{ns: newNamespace(t, labels...)}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if t.Failed() {
			out, err := try(ctx, "", "kubectl", "--", "logs", "-n", e.ns, "deploy/gate", "--tail=30")
			t.Logf("the end of Traefik's log in %s: %v\n%s", e.ns, err, out)
		}
		_, _ = try(ctx, "", "kubectl", "--", "delete", "clusterrolebinding", "--ignore-not-found", "traefik-"+e.ns)
	})
	text, err := os.ReadFile("testdata/traefik.yaml")
	if err != nil {
		t.Fatal(err)
	}
	site := func(p *podTemplate) { p.labels += ", site: web" }
	apply(t, e.ns, deployment("web-1", httpArgs, strict, site, node("node-2"))+service("web-1", []string{"80:8080"})+
		deployment("web-2", httpArgs, strict, site, node("node-1"))+service("web-2", []string{"80:8080"})+
		deployment("secure", []string{"http", "--listen", ":8443", "--tls", "secure.example"}, strict, node("node-2"))+service("secure", []string{"443:8443"})+
		tlsSecret(t, "field", "field.example")+
		strings.ReplaceAll(string(text), "NAMESPACE", e.ns))
	return e
}

// start waits until Traefik serves all hosts.
func (e *edge) start(t *testing.T) {
	t.Helper()
	ready(t, e.ns, "deploy/gate", "deploy/web-1", "deploy/web-2", "deploy/secure")
	ports := strings.Fields(kubectl(t, "get", "-n", e.ns, "svc/gate", "svc/gate-anywhere", "-o", "jsonpath={.items[*].spec.ports[*].nodePort}"))
	if len(ports) != 3 {
		t.Fatalf("node ports: got %v, want 3", ports)
	}
	e.gate, e.secure = nodeIP(t, "node-1")+":"+ports[0], nodeIP(t, "node-1")+":"+ports[1]
	e.anywhere = nodeIP(t, "node-2") + ":" + ports[2]
	e.traefik = kubectl(t, "get", "-n", e.ns, podOf(t, e.ns, "gate"), "-o", "jsonpath={.status.podIP}")
	for name, v := range e.visits() {
		eventually(t, 2*patience, func() error {
			got, err := e.tryVisit(t, v.url, v.at)
			if err == nil && got.Status != "200" {
				err = fmt.Errorf("%s: %+v", name, got)
			}
			return err
		})
	}
}

type visit struct{ url, at string }

// visits are requests by all ways through Traefik.
func (e *edge) visits() map[string]visit {
	out := map[string]visit{
		"from a node without Traefik": {"http://field.example/", e.anywhere},
		"TLS that Traefik ends":       {"https://field.example/", e.secure},
		"TLS that it passes on":       {"https://secure.example/", e.secure},
	}
	for _, host := range []string{"plain", "field", "authority", "http2", "native"} {
		out[host] = visit{"http://" + host + ".example/" + host + "?a=b%2Fc", e.gate}
	}
	return out
}

func (e *edge) observations(t *testing.T) map[string]arrival {
	t.Helper()
	out := map[string]arrival{}
	for name, v := range e.visits() {
		got := e.visit(t, v.url, v.at)
		got.Host = strings.ReplaceAll(got.Host, e.ns, "NAMESPACE")
		out[name] = got
	}
	return out
}

// arrival is what the client and the application see of a request.
type arrival struct {
	Status      string
	Certificate string // name in the server's certificate
	Proto, Host string // of the request at the application
	Path        string
	For, Scheme string // X-Forwarded-For and X-Forwarded-Proto there
	FromGate    bool   // it comes from Traefik's address
}

func (e *edge) visit(t *testing.T, url, at string, args ...string) arrival {
	t.Helper()
	got, err := e.tryVisit(t, url, at, args...)
	if err != nil {
		t.Fatalf("%s: %s at %s: %v", e.ns, url, at, err)
	}
	return got
}

// tryVisit requests a URL from outside the cluster, at an address and port.
func (e *edge) tryVisit(t *testing.T, url, at string, args ...string) (a arrival, err error) {
	out, err := try(t.Context(), "", append([]string{
		"exec", "--", "curl", "-sSk", "--max-time", "30", "--connect-to", "::" + at,
		"-w", "\n%{http_code}\n%{certs}", url,
	}, args...)...)
	if err != nil {
		return a, err
	}
	body, rest, _ := strings.Cut(out, "\n")
	rest = strings.TrimSpace(rest)
	a.Status, rest, _ = strings.Cut(rest, "\n")
	for line := range strings.Lines(rest) {
		if subject, ok := strings.CutPrefix(line, "Subject:"); ok {
			_, name, _ := strings.Cut(subject, "=")
			a.Certificate = strings.TrimSpace(name)
		}
	}
	if a.Status != "200" {
		return a, nil
	}
	var said struct {
		RemoteAddr, Proto, Host, Path string
		Headers                       map[string][]string
	}
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		return a, fmt.Errorf("%q: %w", out, err)
	}
	a.Proto, a.Host, a.Path = said.Proto, said.Host, said.Path
	a.For, a.Scheme = strings.Join(said.Headers["X-Forwarded-For"], ", "), strings.Join(said.Headers["X-Forwarded-Proto"], ", ")
	a.FromGate = strings.HasPrefix(said.RemoteAddr, e.traefik+":")
	return a, nil
}

// share makes n requests for a host from outside the cluster, and returns how many of them
// version 2 answered.
func (e *edge) share(t *testing.T, host string, n int) (second int) {
	t.Helper()
	out, err := try(t.Context(), "", "exec", "--", filepath.Join(root, "bin/images/bin/labtest"), "get", "--summary",
		"--count", fmt.Sprint(n), "-H", "Host: "+host, "http://"+e.gate+"/")
	if err != nil {
		t.Fatal(err)
	}
	s, err := summarise(out)
	if err != nil {
		t.Fatal(err)
	}
	if s.Status["200"] != n {
		t.Errorf("%s: got %+v, want %d requests answered 200", host, s, n)
	}
	for name, count := range s.Hosts {
		if strings.HasPrefix(name, "web-2-") {
			second += count
		}
	}
	return second
}
