// Package ca is the mesh's certificate authority. It lives in the controller
// only: it signs workload and node certificates, hands out the trust bundle,
// and makes the tokens with which a node first proves its name.
//
// Whether a node may have the certificate it asks for is the caller's to
// decide (the controller knows which pods run where); this package decides
// only what a certificate may say.
//
// An Authority signs with the Issuer it was last given. Where issuers are kept
// is the business of others: Directory keeps one in files, the controller of a
// cluster in a Secret.
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

	// backdate is how far in the past certificates begin, so that a node
	// whose clock is a little behind accepts them.
	backdate = 60 * time.Second
)

// ErrNoIssuer is returned for what needs an issuer before there is one.
var ErrNoIssuer = errors.New("the authority has no issuer yet")

// Authority signs with one issuer and vouches for several trust anchors: those
// that lead to its issuer and those of the past. It is safe for concurrent use.
type Authority struct {
	trustDomain spiffeid.TrustDomain
	current     atomic.Pointer[authorityState]
}

// authorityState is immutable; Use publishes a new one.
type authorityState struct {
	issuer  Issuer
	anchors []*x509.Certificate
}

// New returns an Authority that signs nothing before Use.
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

// Use makes the Authority sign with issuer, and anchors its trust bundle. An
// issuer that leads to none of them, or could not sign for the trust domain, is
// refused, and what was before stays.
func (a *Authority) Use(issuer Issuer, anchors []*x509.Certificate) error {
	next := &authorityState{issuer: issuer, anchors: Distinct(anchors)}
	if err := issuer.check(a.trustDomain, next.anchors); err != nil {
		return err
	}
	a.current.Store(next)
	return nil
}

// Issuer is what the Authority signs with; ok is false before the first Use.
func (a *Authority) Issuer() (i Issuer, ok bool) {
	s := a.current.Load()
	if s == nil {
		return Issuer{}, false
	}
	return s.issuer, true
}

// IssuerID identifies the issuer's key; nil before there is one. What depends
// on the issuer is to be made anew when it changes.
func (a *Authority) IssuerID() []byte {
	if i, ok := a.Issuer(); ok {
		return i.Cert().RawSubjectPublicKeyInfo
	}
	return nil
}

// TrustDomain is the trust domain this authority signs for.
func (a *Authority) TrustDomain() string { return a.trustDomain.Name() }

// Anchors is the trust bundle, nil before the first Use. The caller must not
// change it.
func (a *Authority) Anchors() []*x509.Certificate {
	s := a.current.Load()
	if s == nil {
		return nil
	}
	return s.anchors
}

// AnchorsPEM is the trust bundle as PEM certificates.
func (a *Authority) AnchorsPEM() []byte { return EncodePEM(a.Anchors()...) }

// Distinct returns certs without repetitions.
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
