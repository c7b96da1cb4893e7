package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// Issuer is a CA certificate with its key and its chain to a trust anchor.
type Issuer struct {
	Key crypto.Signer
	// Chain begins with the signing certificate. The others lead to an anchor.
	// They are intermediates or, after a rotation, a certificate for the same key
	// and name that the previous root signed. All of them except self-signed ones
	// are sent with the certificates that the issuer signs.
	Chain []*x509.Certificate
}

// Cert returns the signing certificate.
func (i Issuer) Cert() *x509.Certificate { return i.Chain[0] }

// NewRoot makes a self-signed issuer for the trust domain, valid for ten years.
func NewRoot(trustDomain string) (Issuer, error) {
	td, err := parseTrustDomain(trustDomain)
	if err != nil {
		return Issuer{}, err
	}
	return newRoot(td)
}

// Successor makes a new root for the trust domain, cross-signed by i. A peer that
// does not have the new root yet also accepts the certificates that it signs, so
// a rotation breaks no connection, whatever the order of events.
func (i Issuer) Successor(trustDomain string) (Issuer, error) {
	next, err := NewRoot(trustDomain)
	if err != nil {
		return Issuer{}, err
	}
	cross, err := i.crossSign(next.Cert())
	if err != nil {
		return Issuer{}, err
	}
	next.Chain = append(next.Chain, cross)
	return next, nil
}

// crossSign returns a certificate by i for the key and name of next.
func (i Issuer) crossSign(next *x509.Certificate) (*x509.Certificate, error) {
	template := &x509.Certificate{
		Subject:               next.Subject,
		SubjectKeyId:          next.SubjectKeyId,
		URIs:                  next.URIs,
		NotBefore:             next.NotBefore,
		NotAfter:              i.Cert().NotAfter,
		KeyUsage:              next.KeyUsage,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.Cert(), next.PublicKey, i.Key)
	if err != nil {
		return nil, fmt.Errorf("cross-sign the new root: %w", err)
	}
	return x509.ParseCertificate(der)
}

// DueForRotation reports whether 80 % of the issuer's lifetime has passed.
func (i Issuer) DueForRotation(now time.Time) bool {
	c := i.Cert()
	return now.After(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 10 * 8))
}

// ParseIssuer reads the chain and the key of an issuer from PEM. Keys are
// PKCS #8, SEC 1 ("EC PRIVATE KEY") or PKCS #1 ("RSA PRIVATE KEY").
func ParseIssuer(chainPEM, keyPEM []byte) (Issuer, error) {
	_, chain, err := parsePEM(chainPEM)
	if err != nil {
		return Issuer{}, err
	}
	key, _, err := parsePEM(keyPEM)
	switch {
	case err != nil:
		return Issuer{}, err
	case key == nil:
		return Issuer{}, errors.New("no private key in it (PKCS #8, EC or RSA, not encrypted)")
	case len(chain) == 0:
		return Issuer{}, errors.New("no certificate in it")
	}
	pub, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return Issuer{}, errors.New("certificate and private key do not belong together")
	}
	return Issuer{Key: key, Chain: chain}, nil
}

// ChainPEM returns the issuer's chain as PEM certificates.
func (i Issuer) ChainPEM() []byte { return EncodePEM(i.Chain...) }

// KeyPEM returns the issuer's key as PEM, in PKCS #8.
func (i Issuer) KeyPEM() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		return nil, fmt.Errorf("encode the issuer's key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: key}), nil
}

// check returns an error for an issuer whose certificates no peer would accept:
// one that is not a CA of the trust domain, has expired, or leads to none of the
// anchors.
func (i Issuer) check(td spiffeid.TrustDomain, anchors []*x509.Certificate) error {
	cert := i.Cert()
	switch now := time.Now(); {
	case !cert.IsCA || !cert.BasicConstraintsValid:
		return errors.New("the certificate is not a CA's")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("the certificate's key usage does not allow signing")
	case now.After(cert.NotAfter):
		return fmt.Errorf("the issuer's certificate expired on %s", cert.NotAfter.Format(time.DateOnly))
	}
	for _, uri := range cert.URIs {
		if uri.String() != td.IDString() {
			return fmt.Errorf("the issuer is %s's, not %s's", uri, td.IDString())
		}
	}
	if err := certchain.CheckIssuer(i.sent(time.Now())); err != nil {
		return fmt.Errorf("the issuer %q has a chain that no agent takes: %w", cert.Subject, err)
	}
	if err := i.LeadsTo(anchors); err != nil {
		return fmt.Errorf("the issuer %q leads to none of the trust anchors: %w", cert.Subject, err)
	}
	return nil
}

// LeadsTo returns nil if a peer that trusts only anchors accepts the certificates
// that the issuer signs.
func (i Issuer) LeadsTo(anchors []*x509.Certificate) error {
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, c := range anchors {
		opts.Roots.AddCert(c)
	}
	for _, c := range i.Chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	// Also try the cross-signed certificate for the same key: it may lead to an
	// anchor where the signing certificate itself does not.
	var err error
	for _, c := range i.Chain {
		if string(c.RawSubjectPublicKeyInfo) != string(i.Cert().RawSubjectPublicKeyInfo) {
			continue
		}
		if _, err = c.Verify(opts); err == nil {
			return nil
		}
	}
	return err
}

// sent returns the certificates to send with those that the issuer signs.
func (i Issuer) sent(now time.Time) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range i.Chain {
		if !selfSigned(c) && now.Before(c.NotAfter) {
			out = append(out, c)
		}
	}
	return out
}

func selfSigned(c *x509.Certificate) bool {
	return string(c.RawIssuer) == string(c.RawSubject) && c.CheckSignatureFrom(c) == nil
}

// newRoot makes a root certificate of the trust domain with a new key.
func newRoot(td spiffeid.TrustDomain) (Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issuer{}, fmt.Errorf("generate root key: %w", err)
	}
	template := rootTemplate(td, time.Now())
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Issuer{}, fmt.Errorf("sign root: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Issuer{}, fmt.Errorf("parse root: %w", err)
	}
	return Issuer{Key: key, Chain: []*x509.Certificate{cert}}, nil
}

func rootTemplate(td spiffeid.TrustDomain, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{
			Organization: []string{"Underlane"},
			// Distinct names keep verifiers from trying the wrong root first.
			CommonName: fmt.Sprintf("%s root %s", td.Name(), now.UTC().Format(time.RFC3339Nano)),
		},
		URIs:                  []*url.URL{td.ID().URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1, // room for the cross-signed certificate of the next root
	}
}
