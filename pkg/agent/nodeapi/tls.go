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

	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// Credentials are what the node API shows and demands on the network. All are
// asked for at each handshake, so that renewal and rotation need no restart.
type Credentials struct {
	Certificate func() (*tls.Certificate, error) // the node's
	Anchors     func() (*x509.CertPool, error)   // of the mesh
	TrustDomain string
}

// controllerPath is that of the only SPIFFE ID that may call.
const controllerPath = "/controller"

// TLS is the server's configuration: TLS 1.3, and a client certificate of the
// mesh's CA for spiffe://<trust-domain>/controller. Pods and other nodes have
// certificates of that CA too, with names of their own: they are refused like
// anybody else. Sessions are not resumed, so each connection is checked.
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

// untilExpiry ends with the certificate that the caller came with, if it came
// with one: a stream must not outlive it.
func untilExpiry(ctx context.Context) (context.Context, context.CancelFunc) {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			return context.WithDeadline(ctx, info.State.PeerCertificates[0].NotAfter)
		}
	}
	return ctx, func() {}
}

// Bounds of what may come from the network.
const (
	maxStrangers     = 128 // connections in their handshake
	maxFromOne       = 32  // of these from one address
	handshakeTimeout = 5 * time.Second
	maxConnAge       = time.Hour // then the next call shakes hands anew: a removed anchor, an expired certificate
)
