package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// SignWorkload makes a certificate for id and the public key of csrDER. That is a
// PKCS #10 request signed by this key; nothing else of it is used. The
// certificate is an X509-SVID: its only name is id, as a URI. It is valid for
// lifetime, rounded up to a second, but not longer than the issuer. chain is DER,
// leaf first, without the root. An id of another trust domain is an error.
func (a *Authority) SignWorkload(csrDER []byte, id mesh.Identity, lifetime time.Duration) (chain [][]byte, notAfter time.Time, err error) {
	name, err := a.workloadID(id)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sign workload certificate: %w", err)
	}
	chain, notAfter, err = a.signID(csrDER, name, lifetime, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sign certificate of %s: %w", id, err)
	}
	return chain, notAfter, nil
}

// SignNode makes the certificate that an agent uses towards the controller, both
// as a client and when the controller calls it. Its name is
// spiffe://<trust-domain>/node/<node>, which is never a workload's. The rest is
// as in SignWorkload.
func (a *Authority) SignNode(csrDER []byte, node string, lifetime time.Duration) (chain [][]byte, notAfter time.Time, err error) {
	name, err := spiffeid.FromSegments(a.trustDomain, nodeSegment, node)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sign certificate of node %q: %w", node, err)
	}
	chain, notAfter, err = a.signID(csrDER, name, lifetime, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("sign certificate of node %s: %w", node, err)
	}
	return chain, notAfter, nil
}

// ServingCertificate makes the controller's own server certificate with a new
// key, valid for a year.
func (a *Authority) ServingCertificate(dnsNames []string, ips []net.IP) (tls.Certificate, error) {
	if len(dnsNames)+len(ips) == 0 {
		return tls.Certificate{}, errors.New("serving certificate: no name and no address to put into it")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("serving certificate: generate key: %w", err)
	}
	leaf := &x509.Certificate{
		DNSNames:    dnsNames,
		IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	chain, _, err := a.sign(leaf, key.Public(), servingLifetime)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("serving certificate: %w", err)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key}, nil
}

func (a *Authority) workloadID(id mesh.Identity) (spiffeid.ID, error) {
	if id.TrustDomain != a.trustDomain.Name() {
		return spiffeid.ID{}, fmt.Errorf("identity %q is not of trust domain %s", id, a.trustDomain.Name())
	}
	// FromSegments refuses names that would change the structure of the path.
	return spiffeid.FromSegments(a.trustDomain, "ns", id.Namespace, "sa", id.ServiceAccount)
}

func (a *Authority) signID(csrDER []byte, id spiffeid.ID, lifetime time.Duration, usage ...x509.ExtKeyUsage) ([][]byte, time.Time, error) {
	pub, err := requestKey(csrDER)
	if err != nil {
		return nil, time.Time{}, err
	}
	return a.sign(&x509.Certificate{URIs: []*url.URL{id.URL()}, ExtKeyUsage: usage}, pub, lifetime)
}

// requestKey returns the public key of a request, after checking that the
// request is signed by it.
func requestKey(csrDER []byte) (crypto.PublicKey, error) {
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("parse request: %w", err)
	}
	if err := certchain.CheckKey(csr.PublicKey); err != nil { // first: the signature of a large key is costly to check
		return nil, fmt.Errorf("the request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed by its own key: %w", err)
	}
	return csr.PublicKey, nil
}

// sign completes leaf and signs it with the current issuer.
func (a *Authority) sign(leaf *x509.Certificate, pub crypto.PublicKey, lifetime time.Duration) ([][]byte, time.Time, error) {
	issuer, ok := a.Issuer()
	if !ok {
		return nil, time.Time{}, ErrNoIssuer
	}
	by := issuer.Cert()
	now := time.Now()
	switch {
	case lifetime <= 0:
		return nil, time.Time{}, fmt.Errorf("lifetime %s is not positive", lifetime)
	case now.After(by.NotAfter):
		return nil, time.Time{}, fmt.Errorf("the issuer expired on %s: rotate it", by.NotAfter.Format(time.DateOnly))
	}
	leaf.NotBefore = now.Add(-backdate)
	leaf.NotAfter = ceilSecond(now.Add(lifetime))
	if leaf.NotAfter.After(by.NotAfter) {
		leaf.NotAfter = by.NotAfter
	}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.BasicConstraintsValid = true // and IsCA false
	// A nil SerialNumber becomes a random one (RFC 5280 section 4.1.2.2).
	der, err := x509.CreateCertificate(rand.Reader, leaf, by, pub, issuer.Key)
	if err != nil {
		return nil, time.Time{}, err
	}
	chain := [][]byte{der}
	for _, c := range issuer.sent(now) {
		chain = append(chain, c.Raw)
	}
	return chain, leaf.NotAfter, nil
}

// ceilSecond rounds up to a second, the resolution of X.509, so that a short
// lifetime does not become shorter.
func ceilSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second).UTC()
	}
	return t.UTC()
}
