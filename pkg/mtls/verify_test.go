package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

func TestMutualHandshake(t *testing.T) {
	a := newAuthority(t, time.Hour)
	m, n := ready(t, startManager(t, a, web)), ready(t, startManager(t, a, store))
	for _, alpn := range meshALPN {
		client, err := m.ClientConfig(web, store, alpn)
		if err != nil {
			t.Fatal(err)
		}
		server, err := n.ServerConfig(store)
		if err != nil {
			t.Fatal(err)
		}
		o := connectPipe(client, server)
		if o.err() != nil {
			t.Fatalf("%s: handshake: %v, want success", alpn, o.err())
		}
		if o.clientID != web || o.serverID != store {
			t.Errorf("%s: the server saw the client %s, want %s; the client saw the server %s, want %s", alpn, o.clientID, web, o.serverID, store)
		}
	}
}

// badPeers returns peers that must be refused. A trusted root issued their
// certificates, except where the case is about the root.
func badPeers(t *testing.T, trusted, unknown root) map[string]struct {
	cert   *tls.Certificate
	reason mesh.Reason
	text   string
} {
	id := store.String()
	type c = struct {
		cert   *tls.Certificate
		reason mesh.Reason
		text   string
	}
	return map[string]c{
		"expired": {trusted.issue(t, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(-3 * time.Minute)
			c.NotBefore = c.NotAfter.Add(-time.Hour)
		}, id), mesh.ReasonTLSPeer, "certificate expired 3m"},
		"not yet valid": {trusted.issue(t, func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(10 * time.Minute)
		}, id), mesh.ReasonTLSPeer, "not valid for another"},
		"unknown root":         {unknown.issue(t, nil, id), mesh.ReasonTLSPeer, "none of our 2 trust anchors"},
		"foreign trust domain": {trusted.issue(t, nil, "spiffe://evil.org/ns/shop/sa/store"), mesh.ReasonTLSPeer, "not of trust domain cluster.local"},
		"no name":              {trusted.issue(t, nil), mesh.ReasonTLSPeer, "0 URI names"},
		"two names":            {trusted.issue(t, nil, id, other.String()), mesh.ReasonTLSPeer, "2 URI names"},
		"DNS name only": {trusted.issue(t, func(c *x509.Certificate) {
			c.DNSNames = []string{"store.shop.svc"}
		}), mesh.ReasonTLSPeer, "0 URI names"},
		"node certificate": {trusted.issue(t, nil, "spiffe://cluster.local/node/node-1"), mesh.ReasonTLSPeer, "want spiffe://"},
		"not spiffe":       {trusted.issue(t, nil, "https://cluster.local/ns/shop/sa/store"), mesh.ReasonTLSPeer, "not a spiffe:// URI"},
		"CA certificate": {trusted.issue(t, func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
		}, id), mesh.ReasonTLSPeer, "CA certificate"},
		"wrong key usage": {trusted.issue(t, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		}, id), mesh.ReasonTLSPeer, "incompatible key usage"},
		"signed by a leaf": {signedByLeaf(t, trusted), mesh.ReasonTLSPeer, "none of our"},
	}
}

// signedByLeaf returns a certificate that a workload signed with its own good
// certificate, as if that were a CA's.
func signedByLeaf(t *testing.T, r root) *tls.Certificate {
	leaf := r.issue(t, nil, other.String())
	parsed, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	forged := root{parsed, newKey(t)}
	forged.cert.PublicKey = forged.key.Public()
	cert := forged.issue(t, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }, store.String())
	cert.Certificate = append(cert.Certificate, leaf.Certificate[0])
	return cert
}

// badConfig offers cert and accepts any peer.
func badConfig(cert *tls.Certificate) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{ALPNTCP}, ClientAuth: tls.RequestClientCert}
	if cert != nil {
		// Without the callback, crypto/tls would not send a certificate that
		// the server's hints do not ask for.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		c.Certificates = []tls.Certificate{*cert}
	}
	return c
}

func TestBadPeersAreRefused(t *testing.T) {
	a := newAuthority(t, time.Hour)
	trusted, unknown := newRoot(t, "trusted"), newRoot(t, "unknown")
	m := ready(t, startManager(t, a, web))
	if err := m.SetAnchors(append(a.anchorsDER(), trusted.cert.Raw)); err != nil {
		t.Fatal(err)
	}
	client, err := m.ClientConfig(web, store, ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	server, err := m.ServerConfig(web)
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, ours, theirs error, reason mesh.Reason, text string) {
		t.Helper()
		if got := HandshakeReason(ours); got != reason || ours == nil || !strings.Contains(ours.Error(), text) {
			t.Errorf("our side: %q: %v, want %q with %q", got, ours, reason, text)
		}
		if got := HandshakeReason(theirs); got != mesh.ReasonTLSRefused {
			t.Errorf("refused side: %q: %v, want %q", got, theirs, mesh.ReasonTLSRefused)
		}
		if NotTLS(ours) || NotTLS(theirs) {
			t.Errorf("NotTLS(%v) = %t, NotTLS(%v) = %t; want false for a refusal", ours, NotTLS(ours), theirs, NotTLS(theirs))
		}
	}
	// Control: a good certificate from the same root is accepted.
	if o := connectPipe(client, badConfig(trusted.issue(t, nil, store.String()))); o.err() != nil {
		t.Fatalf("control: %v, want success", o.err())
	}
	for name, tc := range badPeers(t, trusted, unknown) {
		t.Run(name+"/server", func(t *testing.T) {
			o := connectPipe(client, badConfig(tc.cert))
			check(t, o.client, o.server, tc.reason, tc.text)
			// A certificate without a SPIFFE identity belongs to an application.
			if got, want := NotAgent(o.client), name == "no name" || name == "DNS name only" || name == "not spiffe"; got != want {
				t.Errorf("NotAgent(%v) = %t, want %t", o.client, got, want)
			}
		})
		t.Run(name+"/client", func(t *testing.T) {
			o := connectPipe(badConfig(tc.cert), server)
			check(t, o.server, o.client, tc.reason, tc.text)
		})
	}
	t.Run("another identity", func(t *testing.T) {
		o := connectPipe(client, badConfig(trusted.issue(t, nil, other.String())))
		check(t, o.client, o.server, mesh.ReasonTLSIdentity, "expected spiffe://cluster.local/ns/shop/sa/store")
		if NotAgent(o.client) {
			t.Errorf("NotAgent(%v) = true, want false", o.client)
		}
	})
	t.Run("client without certificate", func(t *testing.T) {
		o := connectPipe(badConfig(nil), server)
		check(t, o.server, o.client, mesh.ReasonTLSPeer, "didn't provide a certificate")
	})
}

// TestForeignTLS has peers that speak TLS, but not as the mesh does.
func TestForeignTLS(t *testing.T) {
	a := newAuthority(t, time.Hour)
	m := ready(t, startManager(t, a, web, store))
	client, _ := m.ClientConfig(web, store, ALPNTCP)
	server, _ := m.ServerConfig(store)
	cert := &m.entry(store).cert.Load().tls
	change := func(f func(*tls.Config)) *tls.Config {
		c := badConfig(cert)
		f(c)
		return c
	}
	for name, c := range map[string]*tls.Config{
		"no ALPN":      change(func(c *tls.Config) { c.NextProtos = nil }),
		"foreign ALPN": change(func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }),
		"TLS 1.2":      change(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }),
	} {
		for side, o := range map[string]outcome{"server": connectPipe(client, c), "client": connectPipe(c, server)} {
			if o.client == nil || o.server == nil {
				t.Errorf("%s as %s: got %+v, want an error on both sides", name, side, o)
			}
			for _, err := range []error{o.client, o.server} {
				if got := HandshakeReason(err); got != mesh.ReasonTLSFailed && got != mesh.ReasonTLSRefused {
					t.Errorf("%s as %s: reason %q of %v, want %q or %q", name, side, got, err, mesh.ReasonTLSFailed, mesh.ReasonTLSRefused)
				}
				if NotTLS(err) {
					t.Errorf("%s as %s: NotTLS(%v) = true, want false", name, side, err)
				}
			}
		}
	}
}

func TestPeerIdentityWithoutCertificate(t *testing.T) {
	id, err := PeerIdentity(tls.ConnectionState{})
	if !id.IsZero() || HandshakeReason(err) != mesh.ReasonTLSPeer {
		t.Errorf("got %q, %v; want no identity and %s", id, err, mesh.ReasonTLSPeer)
	}
}

func TestResumption(t *testing.T) {
	a := newAuthority(t, time.Hour)
	m := ready(t, startManager(t, a, web, store))
	client, _ := m.ClientConfig(web, store, ALPNTCP)
	server, _ := m.ServerConfig(store)

	t.Run("is not offered", func(t *testing.T) {
		c := client.Clone()
		c.SessionTicketsDisabled = false
		c.ClientSessionCache, c.ServerName = tls.NewLRUClientSessionCache(4), "x"
		for range 3 {
			if o := connectTCP(t, c, server); o.err() != nil || o.resumed {
				t.Fatalf("resumed %t, %v; want false and no error", o.resumed, o.err())
			}
		}
	})
	t.Run("would be verified", func(t *testing.T) {
		s, c := server.Clone(), client.Clone()
		s.SessionTicketsDisabled, c.SessionTicketsDisabled = false, false
		c.ClientSessionCache, c.ServerName = tls.NewLRUClientSessionCache(4), "x"
		if o := connectTCP(t, c, s); o.err() != nil {
			t.Fatalf("first handshake: %v, want success", o.err())
		}
		if o := connectTCP(t, c, s); o.err() != nil || !o.resumed {
			t.Fatalf("control: resumed %t, %v; want true and no error", o.resumed, o.err())
		}
		if err := m.SetAnchors(ders(newRoot(t, "new").cert)); err != nil {
			t.Fatal(err)
		}
		o := connectTCP(t, c, s)
		if o.client == nil || o.server == nil {
			t.Errorf("with a ticket whose trust anchor was removed: %+v, want an error on both sides", o)
		}
	})
}

func connectTCP(t testing.TB, client, server *tls.Config) outcome {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return connect(c, s, client, server)
}
