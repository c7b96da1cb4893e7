package tapapi

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"
)

// Authority is the certificate authority that this package needs; ca.Authority
// implements it.
type Authority interface {
	ServingCertificate(dnsNames []string, ips []net.IP) (tls.Certificate, error)
	ControllerCertificate(lifetime time.Duration) (tls.Certificate, error)
	Anchors() []*x509.Certificate
	AnchorsPEM() []byte
	// IssuerID returns a value that changes with the signing key.
	IssuerID() []byte
	TrustDomain() string
}
