package server

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/test/bombs"
)

const nodeID = "spiffe://cluster.local/node/node-1"

// A stranger's chain is refused before it costs anything.
func TestCertificateBombs(t *testing.T) {
	c := newController(t)
	cfg, err := TLSConfig(c.authority, nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	bomb := bombs.Chain(t, nodeID, elliptic.P521(), 99, true)
	err = cfg.VerifyConnection(tls.ConnectionState{PeerCertificates: bombs.Parse(t, bomb)})
	if !errors.Is(err, certchain.ErrBounds) || mtls.HandshakeReason(err) != mesh.ReasonTLSPeer {
		t.Error(err)
	}
	bombs.CheckCost(t, nodeID, func(cert tls.Certificate) {
		// A bomb of that size is cut off; what is smaller gets an alert.
		if err := bombs.Refused(c.addr, bombs.Client(cert, "h2")); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("not refused: %v", err)
		}
	})
}

// A peer's certificate is refused in the handshake unless it is of the mesh, for
// clients, and valid now.
func TestForeignClientCertificatesAreRefused(t *testing.T) {
	c := newController(t)
	chain := bombs.Chain(t, nodeID, elliptic.P256(), 1, false)
	small := bombs.Chain(t, nodeID, elliptic.P256(), 2, true)
	if err := bombs.Refused(c.addr, bombs.Client(small, "h2")); mtls.HandshakeReason(err) != mesh.ReasonTLSRefused {
		t.Errorf("two CAs of one name: %v", err)
	}
	if err := bombs.Refused(c.addr, bombs.Client(chain, "h2")); mtls.HandshakeReason(err) != mesh.ReasonTLSRefused {
		t.Errorf("a foreign CA's certificate: %v", err)
	}
	serving, err := c.authority.ServingCertificate([]string{"x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := bombs.Refused(c.addr, bombs.Client(serving, "h2")); mtls.HandshakeReason(err) != mesh.ReasonTLSRefused {
		t.Errorf("a certificate for servers: %v", err)
	}
	anchors := []*x509.Certificate{bombs.Parse(t, chain)[1]}
	if err := verifyNode(bombs.Parse(t, chain), anchors); err != nil {
		t.Errorf("control: %v", err)
	}
}
