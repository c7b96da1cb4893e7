// Package ca is the mesh's certificate authority. Only the controller uses it. It
// signs workload and node certificates, distributes the trust bundle, and makes
// the tokens with which a node first proves its name.
//
// The caller decides whether a node may have the certificate that it asks for:
// the controller knows which pods run where. This package decides only what a
// certificate may contain.
//
// An Authority signs with the Issuer that it was last given. It does not store
// issuers: Directory stores one in files, and the controller of a cluster in a
// Secret.
package ca

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	rootLifetime    = 10 * 365 * 24 * time.Hour
	servingLifetime = 365 * 24 * time.Hour

	// backdate is how far in the past a certificate's validity begins, so that a
	// node whose clock is slightly behind accepts it.
	backdate = 60 * time.Second
)

// ErrNoIssuer is returned if the Authority has to sign before the first Use.
var ErrNoIssuer = errors.New("the authority has no issuer yet")

// Authority signs with one issuer and has several trust anchors: those of its
// issuer and those of earlier ones. It is safe for concurrent use.
type Authority struct {
	trustDomain spiffeid.TrustDomain
	current     atomic.Pointer[authorityState]
}

// authorityState is immutable; Use publishes a new one.
type authorityState struct {
	issuer  Issuer
	anchors []*x509.Certificate
}

// New returns an Authority for a trust domain. It cannot sign before Use.
func New(trustDomain string) (*Authority, error) {
	td, err := parseTrustDomain(trustDomain)
	if err != nil {
		return nil, err
	}
	return &Authority{trustDomain: td}, nil
}

func parseTrustDomain(name string) (spiffeid.TrustDomain, error) {
	td, err := spiffeid.TrustDomainFromString(name)
	if err != nil {
		return td, fmt.Errorf("trust domain %q: %w", name, err)
	}
	if td.Name() != name {
		return td, fmt.Errorf("trust domain %q: want a bare name such as cluster.local", name)
	}
	return td, nil
}

// Use sets the issuer that the Authority signs with, and the anchors of its trust
// bundle. It returns an error and changes nothing if the issuer leads to none of
// the anchors or cannot sign for the trust domain.
func (a *Authority) Use(issuer Issuer, anchors []*x509.Certificate) error {
	next := &authorityState{issuer: issuer, anchors: Distinct(anchors)}
	if err := issuer.check(a.trustDomain, next.anchors); err != nil {
		return err
	}
	a.current.Store(next)
	return nil
}

// Issuer returns the issuer that the Authority signs with. ok is false before the
// first Use.
func (a *Authority) Issuer() (i Issuer, ok bool) {
	s := a.current.Load()
	if s == nil {
		return Issuer{}, false
	}
	return s.issuer, true
}

// IssuerID identifies the issuer's key. It is nil before the first Use. When it
// changes, callers must renew what depends on the issuer.
func (a *Authority) IssuerID() []byte {
	if i, ok := a.Issuer(); ok {
		return i.Cert().RawSubjectPublicKeyInfo
	}
	return nil
}

// TrustDomain returns the trust domain that the Authority signs for.
func (a *Authority) TrustDomain() string { return a.trustDomain.Name() }

// Anchors returns the trust bundle, nil before the first Use. The caller must not
// change it.
func (a *Authority) Anchors() []*x509.Certificate {
	s := a.current.Load()
	if s == nil {
		return nil
	}
	return s.anchors
}

// AnchorsPEM returns the trust bundle as PEM certificates.
func (a *Authority) AnchorsPEM() []byte { return EncodePEM(a.Anchors()...) }

// Distinct returns certs without duplicates.
func Distinct(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
next:
	for _, c := range certs {
		for _, o := range out {
			if o.Equal(c) {
				continue next
			}
		}
		out = append(out, c)
	}
	return out
}

// EncodePEM returns certs as PEM.
func EncodePEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw})...)
	}
	return out
}
