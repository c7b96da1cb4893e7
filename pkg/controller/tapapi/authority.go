package tapapi

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"
)

// Authority is the mesh's, as this package needs it; ca.Authority is one.
type Authority interface {
	ServingCertificate(dnsNames []string, ips []net.IP) (tls.Certificate, error)
	ControllerCertificate(lifetime time.Duration) (tls.Certificate, error)
	Anchors() []*x509.Certificate
	AnchorsPEM() []byte
	// IssuerID changes with the key that signs.
	IssuerID() []byte
	TrustDomain() string
}
