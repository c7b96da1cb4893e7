package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "github.com/underlane/underlane/api/control/v1"
)

// credential is a node's certificate. Its private key stays in memory and is never
// written or sent.
type credential struct {
	node  string
	token func() (string, error)

	mu    sync.Mutex
	cert  *tls.Certificate
	extra [][]byte // trust anchors from the controller, DER
}

// valid returns the certificate unless it has expired.
func (c *credential) valid() (*tls.Certificate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert == nil || !time.Now().Before(c.cert.Leaf.NotAfter) {
		return nil, false
	}
	return c.cert, true
}

func (c *credential) expiry() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert == nil {
		return time.Time{}
	}
	return c.cert.Leaf.NotAfter
}

func (c *credential) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert = nil
}

func (c *credential) anchors() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.extra
}

// bootstrap requests a certificate with the token.
func (c *credential) bootstrap(ctx context.Context, conn *grpc.ClientConn) error {
	token, err := c.token()
	if err != nil {
		return fmt.Errorf("bootstrap token: %w", err)
	}
	return c.obtain(func(csr []byte) (*pb.BootstrapResponse, error) {
		return pb.NewControlClient(conn).Bootstrap(ctx, &pb.BootstrapRequest{Node: c.node, Token: token, Csr: csr})
	})
}

// renew requests a certificate with the one that conn presents.
func (c *credential) renew(ctx context.Context, conn *grpc.ClientConn) error {
	return c.obtain(func(csr []byte) (*pb.BootstrapResponse, error) {
		return pb.NewControlClient(conn).Renew(ctx, &pb.RenewRequest{Csr: csr})
	})
}

// obtain generates a key, gets the certificate for it from sign, and starts to use
// both.
func (c *credential) obtain(sign func(csr []byte) (*pb.BootstrapResponse, error)) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the node's key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make the node's certificate request: %w", err)
	}
	resp, err := sign(csr)
	if err != nil {
		return err // a gRPC status with the controller's text
	}
	cert := &tls.Certificate{Certificate: resp.GetChain(), PrivateKey: key}
	if len(cert.Certificate) == 0 {
		return fmt.Errorf("the controller sent no node certificate")
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return fmt.Errorf("parse the node certificate from the controller: %w", err)
	}
	if !key.PublicKey.Equal(cert.Leaf.PublicKey) {
		return fmt.Errorf("the controller's node certificate is for another key")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert, c.extra = cert, resp.GetAnchors()
	return nil
}
