package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"
)

// FuzzSignWorkload checks that, whatever request a node sends, the certificate has
// the identity that the caller decided on and no other name.
func FuzzSignWorkload(f *testing.F) {
	a, err := Open(f.TempDir(), testDomain)
	if err != nil {
		f.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.b"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr)
	f.Add(csr[:len(csr)-1])
	f.Add(a.Anchors()[0].Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		chain, _, err := a.SignWorkload(der, web, time.Hour)
		if err != nil {
			return
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		names := len(leaf.DNSNames) + len(leaf.IPAddresses) + len(leaf.EmailAddresses)
		if leaf.IsCA || names != 0 || len(leaf.URIs) != 1 || leaf.URIs[0].String() != web.String() {
			t.Errorf("signed CA=%t, %v and %d other names; want no CA and only %s", leaf.IsCA, leaf.URIs, names, web)
		}
	})
}
