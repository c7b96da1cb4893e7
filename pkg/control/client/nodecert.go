package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// NodeCertificate returns the node's current certificate, for the node's own
// servers. A server calls it at each handshake, so that renewals take effect. It
// fails while there is no certificate.
func (c *Client) NodeCertificate() (*tls.Certificate, error) {
	cert, ok := c.creds.valid()
	if !ok {
		return nil, errors.New("this node has no valid certificate: has it reached the controller?")
	}
	return cert, nil
}

// TrustAnchors returns the mesh's current trust anchors: the agent's configured
// anchors and those that the controller has sent since.
func (c *Client) TrustAnchors() (*x509.CertPool, error) { return c.pool() }
