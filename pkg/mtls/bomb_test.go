package mtls

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/certchain"
	"github.com/underlane/underlane/test/bombs"
)

// TestCertificateBombs checks that both sides refuse a chain that is costly to
// verify, before they spend time on it.
func TestCertificateBombs(t *testing.T) {
	a := newAuthority(t, time.Hour)
	m := ready(t, startManager(t, a, web))
	client, err := m.ClientConfig(web, store, ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	server, err := m.ServerConfig(web)
	if err != nil {
		t.Fatal(err)
	}
	for side, shake := range map[string]func(tls.Certificate) (ours, theirs error){
		"server": func(c tls.Certificate) (error, error) {
			o := connectPipe(client, badConfig(&c))
			return o.client, o.server
		},
		"client": func(c tls.Certificate) (error, error) {
			o := connectPipe(badConfig(&c), server)
			return o.server, o.client
		},
	} {
		t.Run(side, func(t *testing.T) {
			for name, c := range map[string]tls.Certificate{
				"99 CAs of one name": bombs.Chain(t, store.String(), elliptic.P521(), 99, true),
				"of P-256":           bombs.Chain(t, store.String(), elliptic.P256(), 99, true),
				"two of one name":    bombs.Chain(t, store.String(), elliptic.P256(), 2, true),
				"five certificates":  bombs.Chain(t, store.String(), elliptic.P256(), 4, false),
				"a P-521 leaf":       bombs.Chain(t, store.String(), elliptic.P521(), 0, false),
			} {
				ours, theirs := shake(c)
				if !errors.Is(ours, certchain.ErrBounds) || HandshakeReason(ours) != mesh.ReasonTLSPeer || HandshakeReason(theirs) != mesh.ReasonTLSRefused {
					t.Errorf("%s: our side %v, want %q for %v; the peer %v, want %q",
						name, ours, mesh.ReasonTLSPeer, certchain.ErrBounds, theirs, mesh.ReasonTLSRefused)
				}
			}
			bombs.CheckCost(t, store.String(), func(c tls.Certificate) { _, _ = shake(c) })
		})
	}
}

// TestChainOfFour checks that a chain of as many certificates as the bounds allow
// is accepted.
func TestChainOfFour(t *testing.T) {
	chain := bombs.Chain(t, store.String(), elliptic.P256(), 3, false)
	a := newAuthority(t, time.Hour)
	m := ready(t, startManager(t, a, web))
	if err := m.SetAnchors(ders(append(a.Anchors(), bombs.Parse(t, chain)[3])...)); err != nil {
		t.Fatal(err)
	}
	v := verifier{bundle: m.bundle.Load(), trustDomain: testDomain, expect: store, usage: x509.ExtKeyUsageServerAuth, now: time.Now()}
	if err := v.verify(bombs.Parse(t, chain)); err != nil {
		t.Errorf("a chain of four certificates: got %v, want no error", err)
	}
}
