package control

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// NodeCertificate is the node's certificate of the moment, for the node's own
// servers: renewals take effect at their next handshake. The error says that
// there is none (yet).
func (c *Client) NodeCertificate() (*tls.Certificate, error) {
	cert, ok := c.creds.valid()
	if !ok {
		return nil, errors.New("this node has no valid certificate: has it reached the controller?")
	}
	return cert, nil
}

// TrustAnchors are the mesh's of the moment: those the agent was given and
// those the controller sent since.
func (c *Client) TrustAnchors() (*x509.CertPool, error) { return c.pool() }
