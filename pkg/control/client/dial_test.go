package client

import (
	"crypto/elliptic"
	"crypto/tls"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/test/bombs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nodeID = "spiffe://cluster.local/node/node-1"

// The chain of whatever answers at the controller's address is checked, and
// within bounds.
func TestControllersCertificateIsChecked(t *testing.T) {
	authority, err := ca.Open(t.TempDir(), "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	pem := authority.AnchorsPEM()
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
		client := New(Options{
			Controller: ln.Addr().String(), Node: "node-1", Log: slog.New(slog.DiscardHandler), Store: state.NewStore("node-1"),
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
		cert, err := authority.ServingCertificate([]string{name}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	for name, tc := range map[string]struct {
		cert    tls.Certificate
		refused bool
	}{
		"the controller's": {named(control.ServerName), false}, // ends where the handshake is over
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
