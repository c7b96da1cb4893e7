package ca

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const nodeSegment = "node"

// BootstrapToken returns the secret with which the agent of a node proves its
// name to get its first node certificate. It does not expire, and it is valid for
// that node's name only.
func (d *Directory) BootstrapToken(node string) string {
	mac := hmac.New(sha256.New, d.secret)
	mac.Write([]byte("underlane bootstrap " + node))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// CheckBootstrapToken reports, in constant time, whether token is that of node.
func (d *Directory) CheckBootstrapToken(node, token string) bool {
	return node != "" && hmac.Equal([]byte(token), []byte(d.BootstrapToken(node)))
}

// Authenticate checks a token like CheckBootstrapToken. Its error says what to do.
func (d *Directory) Authenticate(_ context.Context, node, token string) error {
	if !d.CheckBootstrapToken(node, token) {
		return fmt.Errorf("the token is not that of node %q: print the right one with `controller token --node %s`", node, node)
	}
	return nil
}

// NodeName returns the name in a node certificate that SignNode made. The caller
// must have verified cert against the bundle.
func (a *Authority) NodeName(cert *x509.Certificate) (string, error) {
	if len(cert.URIs) != 1 {
		return "", fmt.Errorf("node certificate: %d URI names, want exactly one", len(cert.URIs))
	}
	id, err := spiffeid.FromURI(cert.URIs[0])
	if err != nil {
		return "", fmt.Errorf("node certificate: %w", err)
	}
	const prefix = "/" + nodeSegment + "/"
	path := id.Path()
	if !id.MemberOf(a.trustDomain) || len(path) <= len(prefix) || path[:len(prefix)] != prefix {
		return "", fmt.Errorf("node certificate: %s is not a node of trust domain %s", id, a.trustDomain.Name())
	}
	name := path[len(prefix):]
	if want, err := spiffeid.FromSegments(a.trustDomain, nodeSegment, name); err != nil || want != id {
		return "", fmt.Errorf("node certificate: %s does not name a node", id)
	}
	return name, nil
}
