package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// intermediate makes an issuer below root, with an RSA key in PKCS #1 as openssl
// writes it.
func intermediate(t *testing.T, root Issuer, edit func(*x509.Certificate)) (chainPEM, keyPEM []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, IsCA: true, BasicConstraintsValid: true,
		MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root.Cert(), key.Public(), root.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

func newRootOf(t *testing.T) Issuer {
	t.Helper()
	root, err := NewRoot(testDomain)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestIntermediateIsSentAlong(t *testing.T) {
	root := newRootOf(t)
	issuer, err := ParseIssuer(intermediate(t, root, nil))
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(testDomain)
	if err != nil {
		t.Fatal(err)
	}
	_, csr := request(t)
	if _, _, err := a.SignWorkload(csr, web, time.Hour); !errors.Is(err, ErrNoIssuer) {
		t.Errorf("SignWorkload before Use: got %v, want %v", err, ErrNoIssuer)
	}
	if err := a.Use(issuer, root.Chain); err != nil {
		t.Fatal(err)
	}
	ders, notAfter, err := a.SignWorkload(csr, web, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	chain := parse(t, ders)
	if err := verify(chain, root.Chain); err != nil || len(chain) != 2 {
		t.Errorf("a chain of %d certificates, verified: %v; want 2 and no error", len(chain), err)
	}
	if notAfter.After(issuer.Cert().NotAfter) {
		t.Errorf("valid until %s, want not after its issuer: %s", notAfter, issuer.Cert().NotAfter)
	}
}

func TestUseRefusesWhatNobodyWouldAccept(t *testing.T) {
	root, foreign := newRootOf(t), newRootOf(t)
	good, err := ParseIssuer(intermediate(t, root, nil))
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(testDomain)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Use(good, root.Chain); err != nil {
		t.Fatal(err)
	}
	other, err := NewRoot("other.org")
	if err != nil {
		t.Fatal(err)
	}
	for want, tc := range map[string]struct {
		anchors []*x509.Certificate
		edit    func(*x509.Certificate)
	}{
		"leads to none of the trust anchors": {foreign.Chain, nil},
		"not a CA's":                         {root.Chain, func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }},
		"does not allow signing":             {root.Chain, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }},
		"expired":                            {root.Chain, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
		"other.org":                          {root.Chain, func(c *x509.Certificate) { c.URIs = other.Cert().URIs }},
	} {
		issuer, err := ParseIssuer(intermediate(t, root, tc.edit))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Use(issuer, tc.anchors); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		if now, _ := a.Issuer(); !now.Cert().Equal(good.Cert()) {
			t.Fatalf("after a refused issuer: the issuer is %q, want the old one", now.Cert().Subject)
		}
	}
}

// TestOnlyTakenKeysAndChains checks that the authority neither signs with nor
// signs for keys and chains that agents refuse.
func TestOnlyTakenKeysAndChains(t *testing.T) {
	root := newRootOf(t)
	a, err := New(testDomain)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root.Cert(), key.Public(), root.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Use(Issuer{Key: key, Chain: parse(t, [][]byte{der})}, root.Chain); !errors.Is(err, certchain.ErrBounds) {
		t.Errorf("an issuer with a P-521 key: got %v, want %v", err, certchain.ErrBounds)
	}
	good, err := ParseIssuer(intermediate(t, root, nil))
	if err != nil {
		t.Fatal(err)
	}
	twin, err := ParseIssuer(intermediate(t, root, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Use(Issuer{Key: good.Key, Chain: append(good.Chain, twin.Chain...)}, root.Chain); !errors.Is(err, certchain.ErrBounds) {
		t.Errorf("two intermediates with the same name: got %v, want %v", err, certchain.ErrBounds)
	}
	if err := a.Use(good, root.Chain); err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.SignNode(csr, "node-1", time.Hour); err == nil || !strings.Contains(err.Error(), "P-521") {
		t.Errorf("a request for a P-521 key: got %v, want an error that names the curve", err)
	}
}

func TestSuccessorLeadsToOldAndNewRoot(t *testing.T) {
	old := newRootOf(t)
	next, err := old.Successor(testDomain)
	if err != nil {
		t.Fatal(err)
	}
	for name, anchors := range map[string][]*x509.Certificate{"old": old.Chain, "new": next.Chain[:1]} {
		if err := next.LeadsTo(anchors); err != nil {
			t.Errorf("new issuer and %s root: got %v, want no error", name, err)
		}
	}
	if old.LeadsTo(next.Chain[:1]) == nil {
		t.Error("the old issuer and the new root: got no error, want one")
	}
	key, err := next.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseIssuer(next.ChainPEM(), key)
	if err != nil || len(again.Chain) != 2 || again.LeadsTo(old.Chain) != nil {
		t.Errorf("parsed again: a chain of %d, %v; want 2 that lead to the old root", len(again.Chain), err)
	}
	life := old.Cert().NotAfter.Sub(old.Cert().NotBefore)
	for share, want := range map[time.Duration]bool{79: false, 81: true} {
		if got := old.DueForRotation(old.Cert().NotBefore.Add(life / 100 * share)); got != want {
			t.Errorf("due at %d %% of the lifetime: %v, want %v", share, got, want)
		}
	}
}
