package control

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/test/bombs"
)

const nodeID = "spiffe://cluster.local/node/node-1"

// A stranger's chain is refused before it costs anything.
func TestCertificateBombs(t *testing.T) {
	c := newController(t)
	cfg, err := ServerTLS(c.authority, nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	bomb := bombs.Chain(t, nodeID, elliptic.P521(), 99, true)
	err = cfg.VerifyConnection(tls.ConnectionState{PeerCertificates: bombs.Parse(t, bomb)})
	if !errors.Is(err, certchain.ErrBounds) || mtls.HandshakeReason(err) != mesh.ReasonTLSPeer {
		t.Error(err)
	}
	bombs.Bearable(t, nodeID, func(cert tls.Certificate) {
		// A bomb of that size is cut off; what is smaller gets an alert.
		if err := bombs.Refused(c.addr, bombs.Client(cert, "h2")); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("not refused: %v", err)
		}
	})
}

// Whoever shows a certificate is refused in the handshake unless it is the
// mesh's, for clients, and of now.
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

// An agent does not check the chain of whoever answers at the controller's
// address either.
func TestControllersCertificateIsChecked(t *testing.T) {
	c := newController(t)
	pem := c.authority.AnchorsPEM()
	connect := func(cert tls.Certificate) error {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_ = conn.(*tls.Conn).Handshake()
				_ = conn.Close()
			}
		}()
		client := NewClient(ClientOptions{
			Controller: ln.Addr().String(), Node: "node-1", Log: quiet(), Store: state.NewStore("node-1"),
			Anchors: func() ([]byte, error) { return pem, nil }, Token: func() (string, error) { return "x", nil },
		})
		conn, err := client.dial(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return client.creds.bootstrap(t.Context(), conn)
	}
	named := func(name string) tls.Certificate {
		cert, err := c.authority.ServingCertificate([]string{name}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	for name, tc := range map[string]struct {
		cert    tls.Certificate
		refused bool
	}{
		"the controller's": {named(ServerName), false}, // ends where the handshake is over
		"another name":     {named("elsewhere"), true},
		"a foreign CA's":   {bombs.Chain(t, nodeID, elliptic.P256(), 1, false), true},
		"a bomb":           {bombs.Chain(t, nodeID, elliptic.P521(), 99, true), true},
	} {
		err := connect(tc.cert)
		const text = "the controller's certificate"
		if status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), text) != tc.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
