package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/cluster/layout"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	node := layout.Node{Index: 2}
	if err := Write(dir, []layout.Node{node}); err != nil {
		t.Fatal(err)
	}
	cas := map[string]*x509.CertPool{CA: pool(t, dir, CA), FrontProxyCA: pool(t, dir, FrontProxyCA)}
	for _, test := range []struct {
		name, ca, user, server string
		groups                 []string
	}{
		{name: APIServer, ca: CA, user: "kube-apiserver", server: layout.ControlPlaneIP},
		{name: APIServer, ca: CA, user: "kube-apiserver", server: "kubernetes.default.svc"},
		{name: KubeletClient, ca: CA, user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{name: FrontProxy, ca: FrontProxyCA, user: FrontProxy},
		{name: "admin", ca: CA, user: "admin", groups: []string{"system:masters"}},
		{name: "node-2", ca: CA, user: "system:node:node-2", groups: []string{"system:nodes"}, server: "10.89.0.12"},
	} {
		t.Run(test.name+" "+test.server, func(t *testing.T) {
			pair, err := tls.LoadX509KeyPair(filepath.Join(dir, test.name+".crt"), filepath.Join(dir, test.name+".key"))
			if err != nil {
				t.Fatal(err)
			}
			usage := x509.ExtKeyUsageClientAuth
			if test.server != "" {
				usage = x509.ExtKeyUsageServerAuth
			}
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: cas[test.ca], DNSName: test.server, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
				t.Error(err)
			}
			for name, other := range cas {
				if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: other, KeyUsages: []x509.ExtKeyUsage{usage}}); name != test.ca && err == nil {
					t.Errorf("verified with %s too, want only its own authority", name)
				}
			}
			if pair.Leaf.Subject.CommonName != test.user {
				t.Errorf("user %q, want %q", pair.Leaf.Subject.CommonName, test.user)
			}
			if diff := cmp.Diff(test.groups, pair.Leaf.Subject.Organization); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKubeconfig(t *testing.T) {
	pair := Pair{Cert: []byte("cert"), Key: []byte("key")}
	var got map[string]any
	if err := json.Unmarshal(Kubeconfig("https://server:1", []byte("ca"), "me", pair), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "underlane",
		"clusters": []any{map[string]any{"name": "underlane", "cluster": map[string]any{
			"server": "https://server:1", "certificate-authority-data": "Y2E=",
		}}},
		"users": []any{map[string]any{"name": "me", "user": map[string]any{
			"client-certificate-data": "Y2VydA==", "client-key-data": "a2V5",
		}}},
		"contexts": []any{map[string]any{"name": "underlane", "context": map[string]any{"cluster": "underlane", "user": "me"}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSigningKeyIsAPair(t *testing.T) {
	private, public, err := SigningKey()
	if err != nil {
		t.Fatal(err)
	}
	p, _ := pem.Decode(private)
	key, err := x509.ParseECPrivateKey(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	p, _ = pem.Decode(public)
	pub, err := x509.ParsePKIXPublicKey(p.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !key.PublicKey.Equal(pub) {
		t.Error("the public key does not belong to the private key, want a pair")
	}
}

func pool(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name+".crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s: got no certificate, want one", name)
	}
	return pool
}
