// Package certchain verifies the certificate chains that peers send, and bounds
// what a stranger's chain costs: whoever terminates TLS verifies by it.
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

// Bounds of a chain that a peer sends. What is within them costs at most a few
// signature checks; what is beyond them costs none. Without them, 99 CAs of one
// name with P-521 keys cost a hundred checks, a third of a second of processor time.
const (
	MaxLen    = 4        // certificates: the leaf, and intermediates up to a trust anchor
	MaxBytes  = 16 << 10 // of DER, which bounds names, constraints and policies too
	leafBytes = 1 << 10  // of these, kept free for the leaf where it is not made yet
	minRSA    = 2048     // bits
	maxRSA    = 4096
)

// ErrBounds is in the errors about a chain that is over the bounds, of which no
// signature has been checked.
var ErrBounds = errors.New("the certificate chain is not checked")

var errNone = errors.New("the peer sent no certificate")

// Verify verifies a peer's chain, leaf first, for opts.Roots and the rest
// of opts, once Check has allowed it; opts.Intermediates are the chain's.
// In VerifyConnection of a tls.Config it runs before crypto/tls checks the
// signature that the peer made with the leaf's key.
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

// Check checks what a chain, leaf first, consists of, and no signature: at
// most MaxLen certificates of MaxBytes together, keys that CheckKey
// allows, and no two intermediates of one subject, so that there is one way up.
// The error is an ErrBounds.
func Check(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return nil
	}
	return checkShape(chain, 0)
}

// CheckIssuer is Check for the certificates that an authority sends along
// with the leaf: whether peers take what it signs.
func CheckIssuer(intermediates []*x509.Certificate) error { return checkShape(intermediates, 1) }

// checkShape checks the part of a chain that begins with its certificate first.
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

// CheckKey says whether signatures of a public key are checked: those of ECDSA
// P-256 and P-384, Ed25519, and RSA of 2048 to 4096 bits are.
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
