package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// dial makes a connection that presents cert. A nil cert presents no certificate.
func (c *Client) dial(cert *tls.Certificate) (*grpc.ClientConn, error) {
	return c.dialTo(c.opt.Controller, cert)
}

// dialTo is dial to the controller at another address.
func (c *Client) dialTo(address string, cert *tls.Certificate) (*grpc.ClientConn, error) {
	pool, err := c.pool()
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: control.ServerName,
		// VerifyConnection checks the chain instead: the standard check accepts a
		// chain of any length.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			err := certchain.Verify(cs.PeerCertificates, x509.VerifyOptions{Roots: pool, DNSName: control.ServerName})
			if err != nil {
				return mesh.Fail(mesh.ReasonTLSPeer, fmt.Errorf("the controller's certificate: %w", err))
			}
			return nil
		},
	}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(cfg)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := c.opt.Dial(ctx, address)
			if err == nil {
				c.reached.Store(true)
			}
			return conn, err
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: control.KeepaliveTime, Timeout: control.KeepaliveTimeout}),
		// Without it each delta is followed by a ping to find out how large the window should be.
		grpc.WithStaticStreamWindowSize(control.AgentWindow), grpc.WithStaticConnWindowSize(control.AgentWindow),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("controller address %q: %w", address, err)
	}
	return conn, nil
}

// pool returns the trust anchors for the controller's certificate: the configured
// bundle and, for rotations, the anchors that the controller has sent since.
func (c *Client) pool() (*x509.CertPool, error) {
	pem, err := c.opt.Anchors()
	if err != nil {
		return nil, fmt.Errorf("read the trust anchors: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the trust anchors hold no PEM certificate: is it the controller's anchors.pem?")
	}
	for _, ders := range [][][]byte{c.creds.anchors(), c.opt.Store.View().Anchors()} {
		for _, der := range ders {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("parse a trust anchor from the controller: %w", err)
			}
			pool.AddCert(cert)
		}
	}
	return pool, nil
}
