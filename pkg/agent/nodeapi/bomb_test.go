package nodeapi

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/test/bombs"
)

// A stranger's chain is refused before it costs anything, whatever it names.
func TestCertificateBombs(t *testing.T) {
	ours := newRoot(t)
	n := startRemote(t, ours, &Server{})
	waitListening(t, n.addr)
	creds := Credentials{Anchors: func() (*x509.CertPool, error) { return n.anchors.Load(), nil }, TrustDomain: "mesh"}
	bomb := bombs.Chain(t, controllerID, elliptic.P521(), 99, true)
	if err := creds.TLS().VerifyConnection(tls.ConnectionState{PeerCertificates: bombs.Parse(t, bomb)}); !errors.Is(err, certchain.ErrBounds) {
		t.Error(err)
	}
	bombs.CheckCost(t, controllerID, func(c tls.Certificate) {
		if err := bombs.Refused(n.addr, bombs.Client(c, "h2")); err == nil {
			t.Error("not refused")
		}
	})
}
