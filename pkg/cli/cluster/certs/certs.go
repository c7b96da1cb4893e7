// Package certs checks trust anchors and issuers that the user provides.
package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// CheckIssuer finds errors in a user's issuer before it is installed.
func CheckIssuer(anchors, certificate, key []byte) error {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("issuer: %w: do the certificate's and the key's file belong together?", err)
	}
	roots, err := ParsePEM(anchors)
	if err != nil {
		return fmt.Errorf("trust anchors: %w", err)
	}
	var chain []*x509.Certificate
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("issuer: %w", err)
		}
		chain = append(chain, c)
	}
	return errors.Join(IssuedBy(chain, roots, time.Now()), Accepted(chain))
}

// ParsePEM parses all certificates of a PEM text. It fails if there is none.
func ParsePEM(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if out == nil {
		return nil, errors.New("no certificate in PEM form")
	}
	return out, nil
}

// IssuedBy returns an error unless the issuer (its certificate, then intermediates)
// can sign certificates that lead to roots.
func IssuedBy(chain, roots []*x509.Certificate, now time.Time) error {
	issuer := chain[0]
	if !issuer.IsCA {
		return fmt.Errorf("issuer %q is no CA: it lacks the basic constraint CA:TRUE", issuer.Subject)
	}
	if issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("issuer %q may not sign certificates: it lacks the key usage Certificate Sign", issuer.Subject)
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range roots {
		pool.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := issuer.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("issuer %q is not issued by the trust anchors: %w", issuer.Subject, err)
	}
	return nil
}

// Accepted returns an error unless agents accept chains that contain the issuer's
// certificates. The certificates of chain that are not self-signed are sent with
// each workload certificate.
func Accepted(chain []*x509.Certificate) error {
	sent := slices.DeleteFunc(slices.Clone(chain), func(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) })
	if err := certchain.CheckIssuer(sent); err != nil {
		return fmt.Errorf("issuer %q: no agent takes what it signs: %w", chain[0].Subject, err)
	}
	return nil
}

// SupportedKey refuses weak keys, and keys that TLS 1.3 does not support.
func SupportedKey(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize >= 256 {
			return nil
		}
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return nil
		}
	}
	return fmt.Errorf("%q has a key of type %T that is too weak or not supported: use ECDSA P-256 or larger, Ed25519, or RSA of 2048 bits or more", c.Subject, c.PublicKey)
}
