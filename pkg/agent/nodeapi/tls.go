package nodeapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// Credentials are the node's certificate and the trust anchors for the node API on the
// network. The functions are called at each handshake, so that renewal and rotation need
// no restart.
type Credentials struct {
	Certificate func() (*tls.Certificate, error) // the node's
	Anchors     func() (*x509.CertPool, error)   // of the mesh
	TrustDomain string
	Gate        *mtls.Gate // which the handshakes pass; nil: one of this port alone
}

// controllerPath is the path of the only SPIFFE ID that may call.
const controllerPath = "/controller"

// TLS returns the server's configuration. It requires TLS 1.3 and a client certificate
// of the mesh's CA for spiffe://<trust-domain>/controller. Pods and other nodes have
// certificates of the same CA with other names, and are refused. Sessions are not
// resumed, so that the certificate is checked for each connection.
func (c Credentials) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2"},
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequireAnyClientCert,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Certificate() },
		VerifyConnection:       c.verify,
	}
}

func (c Credentials) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the caller has no certificate")
	}
	anchors, err := c.Anchors()
	if err != nil {
		return err
	}
	leaf := cs.PeerCertificates[0]
	want := url.URL{Scheme: "spiffe", Host: c.TrustDomain, Path: controllerPath}
	if leaf.IsCA || len(leaf.URIs) != 1 || leaf.URIs[0].String() != want.String() {
		return fmt.Errorf("the caller is %v: only %s may call", leaf.URIs, &want)
	}
	err = certchain.Verify(cs.PeerCertificates, x509.VerifyOptions{
		Roots: anchors, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("the caller's certificate: %w", err)
	}
	return nil
}

// untilExpiry returns a context that ends when the caller's certificate expires, if the
// caller has one. A stream must not last longer than the certificate.
func untilExpiry(ctx context.Context) (context.Context, context.CancelFunc) {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			return context.WithDeadline(ctx, info.State.PeerCertificates[0].NotAfter)
		}
	}
	return ctx, func() {}
}

// Limits for connections from the network.
const (
	maxStrangers     = 128 // connections in their handshake
	maxFromOne       = 32  // of these from one address
	connsPerSecond   = 10  // new connections from one address, beyond maxFromOne at once
	handshakeTimeout = 5 * time.Second
	maxConnAge       = time.Hour // the next call then has a new handshake, which checks anchors and certificate again
)
