// Package fanin calls the agents of many nodes for one caller. It merges their taps
// into one stream and collects their statuses.
package fanin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// Node is a node and the address of its agent's API.
type Node struct {
	Name    string
	Address string // host:port
}

// Agents calls agents over mutual TLS. It presents the controller's certificate,
// and accepts an agent only with the certificate of that agent's node.
type Agents struct {
	Certificate func() (*tls.Certificate, error) // returns the controller's; called for each call
	Anchors     func() []*x509.Certificate       // returns the mesh's; called for each call
	TrustDomain string
}

const (
	// callTimeout bounds the time until an agent answers, including the connection
	// setup. It is short because a user waits.
	callTimeout = 5 * time.Second
	// maxMessage allows for the dump of a large node.
	maxMessage = 256 << 20
)

// dial prepares a connection to n. gRPC makes it at the first call.
func (a *Agents) dial(n Node) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+n.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(a.tls(n.Name))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: callTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, fmt.Errorf("agent of %s at %q: %w", n.Name, n.Address, err)
	}
	return conn, nil
}

func (a *Agents) tls(node string) *tls.Config {
	want := url.URL{Scheme: "spiffe", Host: a.TrustDomain, Path: "/node/" + node}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return a.Certificate() },
		// The standard check is for host names, but an agent has a SPIFFE ID.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			return verify(cs.PeerCertificates, a.Anchors(), want.String())
		},
	}
}

func verify(chain, anchors []*x509.Certificate, want string) error {
	roots := x509.NewCertPool()
	for _, c := range anchors {
		roots.AddCert(c)
	}
	leaf := chain[0]
	if leaf.IsCA || len(leaf.URIs) != 1 || leaf.URIs[0].String() != want {
		return fmt.Errorf("who answers is %v, not %s", leaf.URIs, want)
	}
	return certchain.Verify(chain, x509.VerifyOptions{
		Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Call makes one call to n's agent. Its error is written for users.
func (a *Agents) Call(ctx context.Context, n Node, call func(context.Context, agentv1.NodeClient) error) error {
	conn, err := a.dial(n)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := call(ctx, agentv1.NewNodeClient(conn)); err != nil {
		return fmt.Errorf("the agent of %s (%s) does not answer: %s", n.Name, n.Address, status.Convert(err).Message())
	}
	return nil
}
