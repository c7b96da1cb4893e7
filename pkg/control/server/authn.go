package server

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

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// TLSConfig returns the controller's TLS configuration: TLS 1.3, and a serving
// certificate for control.ServerName and the given names and addresses. The
// certificate is replaced before it expires and when the issuer changes. A client
// certificate is optional, because a node calls Bootstrap without one. If the
// client sends one it is verified, so after the handshake a peer has either no
// certificate or one of the mesh. Authority.Anchors is called at each handshake, so
// that a rotation needs no restart. Sessions are not resumed, so each connection is
// checked.
func TLSConfig(a Authority, dnsNames []string, ips []net.IP) (*tls.Config, error) {
	serving := &OwnCertificate{
		Issue: func() (tls.Certificate, error) {
			return a.ServingCertificate(append([]string{control.ServerName}, dnsNames...), ips)
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
		// The first 128 KB of a connection would be records of 1.2 KB, with a system call each.
		// They are the first delta of an agent, which waits for all of it.
		DynamicRecordSizingDisabled: true,
		// VerifyClientCertIfGiven would check a chain of any length.
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

// caller returns the node whose certificate the connection presented. The handshake
// has verified the chain. The expiry is checked again, because a connection may
// outlive its certificate.
func (s *Server) caller(ctx context.Context) (caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, status.Error(codes.Unauthenticated, "no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 { // verifyNode has checked every certificate that is present
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
