package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// ServerTLS returns the controller's TLS configuration: TLS 1.3, a serving
// certificate for ServerName and the given names and addresses that is
// replaced before it expires and when the issuer changes, and client
// certificates that are optional here (Bootstrap has none) but verified when
// given: after the handshake, a certificate of the peer's is one of the mesh.
// The trust anchors are asked for on each handshake, so that a rotation needs no
// restart. Sessions are not resumed, so each connection is checked.
func ServerTLS(a Authority, dnsNames []string, ips []net.IP) (*tls.Config, error) {
	serving := &OwnCertificate{
		Issue: func() (tls.Certificate, error) {
			return a.ServingCertificate(append([]string{ServerName}, dnsNames...), ips)
		},
		Issuer: a.IssuerID,
	}
	if _, err := serving.Get(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2"},
		SessionTicketsDisabled: true,
		// Not VerifyClientCertIfGiven: that checks a chain of any length.
		ClientAuth:       tls.RequestClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error { return verifyNode(cs.PeerCertificates, a.Anchors()) },
		GetCertificate:   func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serving.Get() },
	}, nil
}

func verifyNode(chain, anchors []*x509.Certificate) error {
	if len(chain) == 0 {
		return nil
	}
	roots := x509.NewCertPool()
	for _, c := range anchors {
		roots.AddCert(c)
	}
	err := certchain.Verify(chain, x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return mesh.Fail(mesh.ReasonTLSPeer, fmt.Errorf("the caller's certificate: %w", err))
	}
	return nil
}

// caller is an authenticated node.
type caller struct {
	node   string
	expiry time.Time // of its certificate
}

// caller returns the node whose certificate the connection was made with. TLS
// has verified the chain; the time is checked again, for a connection may
// outlive its certificate.
func (s *Server) caller(ctx context.Context) (caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 { // verifyNode has seen to those that there are
		return caller{}, status.Error(codes.Unauthenticated, "a node certificate is needed: call Bootstrap first")
	}
	leaf := info.State.PeerCertificates[0]
	node, err := s.opt.Authority.NodeName(leaf)
	if err != nil {
		return caller{}, status.Error(codes.PermissionDenied, err.Error())
	}
	if time.Now().After(leaf.NotAfter) {
		return caller{}, status.Error(codes.Unauthenticated, "the node's certificate has expired: it must be renewed")
	}
	return caller{node: node, expiry: leaf.NotAfter}, nil
}
