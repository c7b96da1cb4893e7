package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const controllerSegment = "controller"

// ControllerCertificate makes the client certificate with which the controller
// calls agents, and a new key for it. Its name is
// spiffe://<trust-domain>/controller.
func (a *Authority) ControllerCertificate(lifetime time.Duration) (tls.Certificate, error) {
	name, err := spiffeid.FromSegments(a.trustDomain, controllerSegment)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("controller certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("controller certificate: generate key: %w", err)
	}
	leaf := &x509.Certificate{URIs: []*url.URL{name.URL()}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	chain, _, err := a.sign(leaf, key.Public(), lifetime)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("controller certificate: %w", err)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key}, nil
}
