package fanin

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/test/bombs"
)

// Whoever answers at an agent's address cannot have the controller check a
// costly chain.
func TestCertificateBombs(t *testing.T) {
	const id = "spiffe://cluster.local/node/node-1"
	agents := &Agents{Anchors: func() []*x509.Certificate { return nil }, TrustDomain: "cluster.local"}
	verify := agents.tls("node-1").VerifyConnection
	bomb := bombs.Chain(t, id, elliptic.P521(), 99, true)
	if err := verify(tls.ConnectionState{PeerCertificates: bombs.Parse(t, bomb)}); !errors.Is(err, certchain.ErrBounds) {
		t.Error(err)
	}
	ordinary := bombs.Chain(t, id, elliptic.P256(), 1, false)
	if err := verify(tls.ConnectionState{PeerCertificates: bombs.Parse(t, ordinary)}); err == nil || errors.Is(err, certchain.ErrBounds) {
		t.Error(err)
	}
}
