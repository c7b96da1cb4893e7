package mtls

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// fuzzTime is the time of the fuzzed handshakes. It is fixed so that the corpus
// does not expire.
var fuzzTime = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// fixedCert makes the same certificate in every process: an Ed25519 root or, with
// uris, a leaf that it signed.
func fixedCert(f *testing.F, uris ...string) []byte {
	rootKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: fuzzTime.Add(-time.Hour), NotAfter: fuzzTime.Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	template, key := root, rootKey
	if len(uris) > 0 {
		key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
		template = &x509.Certificate{
			SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		for _, u := range uris {
			parsed, err := url.Parse(u)
			if err != nil {
				f.Fatal(err)
			}
			template.URIs = append(template.URIs, parsed)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root, key.Public(), rootKey)
	if err != nil {
		f.Fatal(err)
	}
	return der
}

// FuzzPeerChain checks that, whatever chain a peer sends, the verifier does not
// panic and accepts only the one good certificate.
func FuzzPeerChain(f *testing.F) {
	anchor, good := fixedCert(f), fixedCert(f, store.String())
	f.Add(good, []byte(nil))
	f.Add(good, anchor)
	f.Add(anchor, good)
	f.Add(fixedCert(f, store.String(), web.String()), []byte(nil))
	f.Add(fixedCert(f, web.String()), good)
	f.Add(fixedCert(f, "spiffe://cluster.local/ns//sa/"), good)
	b, err := newBundle([][]byte{anchor})
	if err != nil {
		f.Fatal(err)
	}
	v := verifier{b, testDomain, store, x509.ExtKeyUsageServerAuth, fuzzTime}
	parsed, err := x509.ParseCertificate(good)
	if err != nil {
		f.Fatal(err)
	}
	if err := v.verify([]*x509.Certificate{parsed}); err != nil {
		f.Fatalf("control: %v", err)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var chain []*x509.Certificate
		for _, der := range [][]byte{first, second} {
			if c, err := x509.ParseCertificate(der); err == nil {
				chain = append(chain, c)
			}
		}
		if v.verify(chain) == nil && !bytes.Equal(chain[0].Raw, good) {
			t.Errorf("accepted %x, want only %x", chain[0].Raw, good)
		}
		if id, err := PeerIdentity(tls.ConnectionState{PeerCertificates: chain}); err == nil {
			if again, err := mesh.ParseIdentity(id.String()); err != nil || again != id {
				t.Errorf("parsing the identity %q gave %q, %v; want the same", id, again, err)
			}
		}
	})
}
