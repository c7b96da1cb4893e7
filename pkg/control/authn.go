package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ServerTLS returns the controller's TLS configuration: TLS 1.3, a serving
// certificate for ServerName and the given names and addresses that is
// replaced before it expires and when the issuer changes, and client
// certificates that are optional here (Bootstrap has none) but verified when
// given. The trust anchors are asked for on each handshake, so that a rotation
// needs no restart. Sessions are not resumed: a resumed one would skip the
// check of the client's certificate.
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
	base := func() *tls.Config {
		return &tls.Config{
			MinVersion:             tls.VersionTLS13,
			NextProtos:             []string{"h2"},
			SessionTicketsDisabled: true,
			ClientAuth:             tls.VerifyClientCertIfGiven,
			GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serving.Get() },
		}
	}
	cfg := base()
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base()
		now.ClientCAs = x509.NewCertPool()
		for _, c := range a.Anchors() {
			now.ClientCAs.AddCert(c)
		}
		return now, nil
	}
	return cfg, nil
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
	if !ok || len(info.State.VerifiedChains) == 0 {
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
