package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"
)

// OwnCertificate is one of the controller's own certificates. It is replaced when
// 70 % of its life has passed. It is also replaced when the issuer changes, because
// the anchor of the old issuer may be removed.
type OwnCertificate struct {
	Issue  func() (tls.Certificate, error)
	Issuer func() []byte // changes with the key that signs; Authority.IssuerID

	mu    sync.Mutex
	cert  *tls.Certificate
	by    []byte // the result of Issuer when cert was issued
	renew time.Time
}

// Get returns the current certificate. The value is not modified later. Get fails
// when Issue fails.
func (o *OwnCertificate) Get() (*tls.Certificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	by := o.Issuer()
	if o.cert != nil && bytes.Equal(o.by, by) && time.Now().Before(o.renew) {
		return o.cert, nil
	}
	cert, err := o.Issue()
	if err == nil && cert.Leaf == nil {
		cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0])
	}
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for the controller: %w", err)
	}
	o.cert, o.by, o.renew = &cert, by, renewalTime(cert.Leaf)
	return o.cert, nil
}

// renewalTime returns the time at which 70 % of c's remaining life will have
// passed.
func renewalTime(c *x509.Certificate) time.Time {
	now := time.Now()
	return now.Add(c.NotAfter.Sub(now) * 7 / 10)
}
