package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

const testDomain = "cluster.local"

var web = mesh.Identity{TrustDomain: testDomain, Namespace: "shop", ServiceAccount: "web"}

func open(t *testing.T, dir string) *Directory {
	t.Helper()
	a, err := Open(dir, testDomain)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// request makes a PKCS #10 request that asks for names that it will not get.
func request(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		DNSNames: []string{"controller.underlane-system.svc"},
		URIs:     []*url.URL{{Scheme: "spiffe", Host: testDomain, Path: "/ns/kube-system/sa/admin"}},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func parse(t *testing.T, chain [][]byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// verify checks a chain against anchors.
func verify(chain, anchors []*x509.Certificate) error {
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, a := range anchors {
		opts.Roots.AddCert(a)
	}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opts)
	return err
}

func TestWorkloadCertificateSaysOnlyWhatTheAuthorityKnows(t *testing.T) {
	a := open(t, t.TempDir())
	key, csr := request(t)
	chain, notAfter, err := a.SignWorkload(csr, web, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, chain)[0]
	type names struct {
		URIs, DNS []string
		IPs       []net.IP
		Email     []string
		Subject   string
		CA        bool
		KeyUsage  x509.KeyUsage
		Ext       []x509.ExtKeyUsage
	}
	got := names{nil, leaf.DNSNames, leaf.IPAddresses, leaf.EmailAddresses, leaf.Subject.String(), leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage}
	for _, u := range leaf.URIs {
		got.URIs = append(got.URIs, u.String())
	}
	want := names{
		URIs: []string{"spiffe://cluster.local/ns/shop/sa/web"}, KeyUsage: x509.KeyUsageDigitalSignature,
		Ext: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("certificate (-want +got):\n%s", diff)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("public key %v, want that of the request: %v", leaf.PublicKey, key.PublicKey)
	}
	if !leaf.NotAfter.Equal(notAfter) {
		t.Errorf("got notAfter %s, want that of the certificate: %s", notAfter, leaf.NotAfter)
	}
	if err := verify(parse(t, chain), a.Anchors()); err != nil {
		t.Errorf("verify the chain with the anchors: %v, want no error", err)
	}
}

func TestLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a stopped clock
		a := open(t, t.TempDir())
		time.Sleep(300 * time.Millisecond)
		now := time.Now()
		_, csr := request(t)
		for _, tc := range []struct{ ask, want time.Duration }{
			{2 * time.Second, 3*time.Second - 300*time.Millisecond}, // rounded up
			{24 * time.Hour, 24*time.Hour + 700*time.Millisecond},
			{100 * 365 * 24 * time.Hour, a.Anchors()[0].NotAfter.Sub(now)}, // never longer than the root
		} {
			chain, notAfter, err := a.SignWorkload(csr, web, tc.ask)
			if err != nil {
				t.Fatal(err)
			}
			if got := notAfter.Sub(now).Round(100 * time.Millisecond); got != tc.want.Round(100*time.Millisecond) {
				t.Errorf("lifetime %s: got %s, want %s", tc.ask, got, tc.want)
			}
			if got := now.Sub(parse(t, chain)[0].NotBefore); got < backdate || got > backdate+time.Second {
				t.Errorf("backdated %s, want %s", got, backdate)
			}
		}
		if _, _, err := a.SignWorkload(csr, web, 0); err == nil {
			t.Error("a lifetime of zero: got no error, want one")
		}
	})
}

func TestSignRefuses(t *testing.T) {
	a := open(t, t.TempDir())
	_, good := request(t)
	forged := append([]byte(nil), good...)
	forged[len(forged)-3] ^= 1 // in the signature
	for name, tc := range map[string]struct {
		csr []byte
		id  mesh.Identity
	}{
		"foreign trust domain":    {good, mesh.Identity{TrustDomain: "evil.org", Namespace: "shop", ServiceAccount: "web"}},
		"no identity":             {good, mesh.Identity{}},
		"no service account":      {good, mesh.Identity{TrustDomain: testDomain, Namespace: "shop"}},
		"path in service account": {good, mesh.Identity{TrustDomain: testDomain, Namespace: "shop", ServiceAccount: "a/sa/b"}},
		"dots":                    {good, mesh.Identity{TrustDomain: testDomain, Namespace: "..", ServiceAccount: "web"}},
		"query":                   {good, mesh.Identity{TrustDomain: testDomain, Namespace: "shop", ServiceAccount: "web?x"}},
		"forged request":          {forged, web},
		"cut request":             {good[:40], web},
		"empty request":           {nil, web},
	} {
		t.Run(name, func(t *testing.T) {
			if chain, _, err := a.SignWorkload(tc.csr, tc.id, time.Hour); err == nil {
				t.Errorf("signed a certificate for %v, want an error", parse(t, chain)[0].URIs)
			}
		})
	}
}

func TestNodeCertificate(t *testing.T) {
	a := open(t, t.TempDir())
	_, csr := request(t)
	chain, _, err := a.SignNode(csr, "node-1.example.com", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, chain)[0]
	if got, err := a.NodeName(leaf); err != nil || got != "node-1.example.com" {
		t.Errorf("NodeName = %q, %v; want node-1.example.com", got, err)
	}
	if diff := cmp.Diff([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, leaf.ExtKeyUsage); diff != "" {
		t.Errorf("extended key usage (-want +got):\n%s", diff)
	}
	if id, err := mesh.ParseIdentity(leaf.URIs[0].String()); err == nil {
		t.Errorf("a node certificate was parsed as the workload %s, want an error", id)
	}
	for _, name := range []string{"", "..", "a/b", "a b", "a%2fb"} {
		if _, _, err := a.SignNode(csr, name, time.Hour); err == nil {
			t.Errorf("SignNode(%q): got no error, want one", name)
		}
	}
	workload, _, err := a.SignWorkload(csr, web, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := a.NodeName(parse(t, workload)[0]); err == nil {
		t.Errorf("a workload certificate was parsed as node %q, want an error", name)
	}
}

func TestServingCertificate(t *testing.T) {
	a := open(t, t.TempDir())
	cert, err := a.ServingCertificate([]string{"controller.underlane-system.svc"}, []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("fd00::1")})
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, cert.Certificate)[0]
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.AnchorsPEM())
	for _, name := range []string{"controller.underlane-system.svc", "10.0.0.1", "fd00::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("verify for %s: %v, want no error", name, err)
		}
	}
	if _, err := a.ServingCertificate(nil, nil); err == nil {
		t.Error("a certificate without a name: got no error, want one")
	}
}

func TestBootstrapToken(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	token := a.BootstrapToken("node-1")
	if !open(t, dir).CheckBootstrapToken("node-1", token) {
		t.Error("the token after a restart: refused, want accepted")
	}
	for _, tc := range [][2]string{{"node-2", token}, {"node-1", ""}, {"node-1", token + "A"}, {"", a.BootstrapToken("")}} {
		if a.CheckBootstrapToken(tc[0], tc[1]) {
			t.Errorf("token %q for node %q: accepted, want refused", tc[1], tc[0])
		}
	}
	if open(t, t.TempDir()).CheckBootstrapToken("node-1", token) {
		t.Error("the token at another authority: accepted, want refused")
	}
}

func TestReopenKeepsRootAndModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet")
	first := open(t, dir).AnchorsPEM()
	if diff := cmp.Diff(first, open(t, dir).AnchorsPEM()); diff != "" {
		t.Errorf("anchors (-first +reopened):\n%s", diff)
	}
	for name, want := range map[string]os.FileMode{rootFile: 0o600, secretFile: 0o600, bundleFile: 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, bundleFile)); err != nil || string(got) != string(first) {
		t.Errorf("anchors.pem is %q (%v), want the bundle %q", got, err, first)
	}
}

func TestConcurrentFirstOpenMakesOneRoot(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	got := make([]string, 8)
	for i := range got {
		wg.Go(func() {
			if a, err := Open(dir, testDomain); err != nil {
				t.Error(err)
			} else {
				got[i] = string(a.AnchorsPEM()) + a.BootstrapToken("n")
			}
		})
	}
	wg.Wait()
	for _, g := range got[1:] {
		if g != got[0] {
			t.Fatalf("two opens made the roots %q and %q, want the same", g, got[0])
		}
	}
}

func TestRotateOverlaps(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	_, csr := request(t)
	sign := func() []*x509.Certificate {
		chain, _, err := a.SignWorkload(csr, web, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, chain)
	}
	before, oldAnchors := sign(), a.Anchors()
	if err := a.Rotate(); err != nil {
		t.Fatal(err)
	}
	after, newAnchors := sign(), a.Anchors()
	if len(newAnchors) != 2 || !newAnchors[1].Equal(oldAnchors[0]) || newAnchors[0].Equal(oldAnchors[0]) {
		t.Fatalf("after a rotation: %d anchors, want the new one and then the old one", len(newAnchors))
	}
	for name, tc := range map[string]struct{ chain, anchors []*x509.Certificate }{
		"old certificate, new bundle":           {before, newAnchors},
		"new certificate, new bundle":           {after, newAnchors},
		"new certificate, peer with old bundle": {after, oldAnchors}, // by the cross-signed root
		"new certificate, old root removed":     {after, newAnchors[:1]},
	} {
		if err := verify(tc.chain, tc.anchors); err != nil {
			t.Errorf("%s: verify: %v, want no error", name, err)
		}
	}
	if err := verify(before, newAnchors[:1]); err == nil {
		t.Error("verify the old certificate without its anchor: got no error, want one")
	}
	if diff := cmp.Diff(a.AnchorsPEM(), open(t, dir).AnchorsPEM()); diff != "" {
		t.Errorf("anchors on disk after the rotation (-want +got):\n%s", diff)
	}
	if err := a.Rotate(); err != nil { // two rotations within the lifetime of a certificate
		t.Fatal(err)
	}
	if err := verify(sign(), newAnchors); err != nil {
		t.Errorf("after a second rotation, verify with the bundle before it: %v, want no error", err)
	}
	if got := len(a.Anchors()); got != 3 {
		t.Errorf("%d anchors after two rotations, want 3", got)
	}
}

func TestExtraAnchorsAndReload(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir)
	other := open(t, t.TempDir())
	path := filepath.Join(dir, anchorsDir, "other.crt")
	if err := os.WriteFile(path, other.AnchorsPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := a.Anchors(); len(got) != 2 || !got[1].Equal(other.Anchors()[0]) {
		t.Fatalf("%d anchors, want our own and the other one", len(got))
	}
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), "other.crt") {
		t.Errorf("got error %v, want one that names other.crt", err)
	}
	if got := len(a.Anchors()); got != 2 {
		t.Errorf("%d anchors after a failed reload, want 2 as before", got)
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	put := func(name, content string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600) }
	}
	foreign, err := Open(t.TempDir(), "other.org")
	if err != nil {
		t.Fatal(err)
	}
	foreignRoot, err := os.ReadFile(foreign.path(rootFile))
	if err != nil {
		t.Fatal(err)
	}
	ours := open(t, t.TempDir())
	for name, tc := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"empty root":              {put(rootFile, ""), "no private key in it"},
		"certificate without key": {put(rootFile, string(ours.AnchorsPEM())), "no private key in it"},
		"key of another":          {put(rootFile, string(foreignRoot[:strings.Index(string(foreignRoot), "-----BEGIN CERT")])+string(ours.AnchorsPEM())), "do not belong together"},
		"foreign trust domain":    {put(rootFile, string(foreignRoot)), "other.org"},
		"short secret":            {put(secretFile, "short"), "token.key"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			open(t, dir)
			if err := tc.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, testDomain); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	for _, td := range []string{"", "UPPER", "a/b", "spiffe://cluster.local"} {
		if _, err := Open(t.TempDir(), td); err == nil {
			t.Errorf("trust domain %q: got no error, want one", td)
		}
	}
}
