// Package certchain verifies the certificate chains that peers send, and bounds
// the processor time that this costs. All code that terminates TLS uses it.
package certchain

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// Bounds of a chain that a peer sends. A chain within the bounds costs at most a
// few signature checks; one beyond them costs none. Without bounds, 99 CAs with
// the same name and P-521 keys would cost a hundred checks, a third of a second
// of processor time.
const (
	MaxLen    = 4       // certificates: the leaf and the intermediates up to a trust anchor
	MaxBytes  = 8 << 10 // of DER, which also bounds names, constraints and policies
	leafBytes = 1 << 10 // part of MaxBytes that CheckIssuer reserves for the leaf
	minRSA    = 2048    // bits
	maxRSA    = 4096
)

// ErrBounds is wrapped by the errors about a chain that is beyond the bounds. No
// signature of such a chain has been checked.
var ErrBounds = errors.New("the certificate chain is not checked")

var errNone = errors.New("the peer sent no certificate")

// Verify verifies a peer's chain, leaf first, with opts, if it passes Check. It
// takes the intermediates from the chain, not from opts. As a tls.Config's
// VerifyConnection it runs before crypto/tls checks the signature that the peer
// made with the leaf's key.
func Verify(chain []*x509.Certificate, opts x509.VerifyOptions) error {
	if len(chain) == 0 {
		return errNone
	}
	if err := Check(chain); err != nil {
		return err
	}
	opts.Intermediates = x509.NewCertPool()
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opts)
	return err
}

// Check checks a chain, leaf first, without checking any signature. It allows at
// most MaxLen certificates of MaxBytes together, only keys that pass CheckKey,
// and no two intermediates with the same subject, so that there is only one path
// to an anchor. The error wraps ErrBounds.
func Check(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return nil
	}
	return checkShape(chain, 0)
}

// CheckIssuer is like Check for the certificates that an authority sends with a
// leaf. It tells whether peers accept what the authority signs.
func CheckIssuer(intermediates []*x509.Certificate) error { return checkShape(intermediates, 1) }

// checkShape checks a part of a chain. first is the index in the chain of the
// part's first certificate.
func checkShape(part []*x509.Certificate, first int) error {
	total, size := first+len(part), first*leafBytes
	if total > MaxLen {
		return fmt.Errorf("%w: %d certificates, at most %d are taken", ErrBounds, total, MaxLen)
	}
	subjects := map[string]bool{}
	for i, c := range part {
		if size += len(c.Raw); size > MaxBytes {
			return fmt.Errorf("%w: it is larger than %d bytes", ErrBounds, MaxBytes)
		}
		if err := CheckKey(c.PublicKey); err != nil {
			return fmt.Errorf("%w: certificate %d of %d: %w", ErrBounds, first+i+1, total, err)
		}
		if first+i == 0 {
			continue
		}
		if subjects[string(c.RawSubject)] {
			return fmt.Errorf("%w: two intermediates of one subject", ErrBounds)
		}
		subjects[string(c.RawSubject)] = true
	}
	return nil
}

// CheckKey returns an error for a public key whose signatures are not checked,
// because they may be costly. It allows ECDSA with P-256 and P-384, Ed25519, and
// RSA with 2048 to 4096 bits.
func CheckKey(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("ECDSA key of curve %s: P-256 and P-384 are taken", k.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return fmt.Errorf("RSA key of %d bits: %d to %d are taken", bits, minRSA, maxRSA)
		}
		return nil
	}
	return fmt.Errorf("key of type %T: ECDSA, Ed25519 and RSA are taken", key)
}
