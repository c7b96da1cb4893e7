package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// maxClients bounds the cached client configs of one identity. A config is cheap
// to make again, so a full cache is simply emptied.
const maxClients = 4096

type clientKey struct {
	expect mesh.Identity
	alpn   string
}

// meshALPN holds the ALPN names of the mesh in a server's order of preference.
var meshALPN = []string{ALPNHTTP2, ALPNStreams, ALPNMux, ALPNHTTP1, ALPNTCPAlone, ALPNTCP, ALPNMove}

// ClientConfig returns the configuration for connections of source to a peer
// that must prove the identity expect. alpn, one of the ALPN constants, is the
// protocol inside. The config is shared and must not be changed. It always uses
// the newest certificate and trust bundle, and needs no ServerName.
//
// The error is a *mesh.ReasonError. Its reason is ReasonNoCertificate if source
// has no certificate that is valid now.
func (m *Manager) ClientConfig(source, expect mesh.Identity, alpn string) (*tls.Config, error) {
	if expect.IsZero() || !slices.Contains(meshALPN, alpn) {
		return nil, mesh.Fail(mesh.ReasonTLSFailed, fmt.Errorf("client config: peer %q, ALPN %q: need an identity and a mesh ALPN", expect, alpn))
	}
	e := m.entry(source)
	if err := m.usable(e, source); err != nil {
		return nil, err
	}
	key := clientKey{expect, alpn}
	e.mu.RLock()
	c := e.clients[key]
	e.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.clients[key]; c != nil {
		return c, nil
	}
	if len(e.clients) >= maxClients {
		clear(e.clients)
	}
	c = m.newClientConfig(e, key)
	e.clients[key] = c
	return c, nil
}

// ServerConfig returns the configuration for connections of mesh peers to id. It
// accepts any identity of the trust domain (PeerIdentity says which it is), and
// no peer without a certificate. Sharing and errors are as with ClientConfig.
func (m *Manager) ServerConfig(id mesh.Identity) (*tls.Config, error) {
	e := m.entry(id)
	if err := m.usable(e, id); err != nil {
		return nil, err
	}
	return e.server, nil
}

// usable returns why e cannot be used for a handshake now, or nil.
func (m *Manager) usable(e *entry, id mesh.Identity) error {
	if e == nil {
		return mesh.Fail(mesh.ReasonNoCertificate, fmt.Errorf("identity %q is not one of this node", id))
	}
	cert := e.cert.Load()
	if cert == nil {
		return mesh.Fail(mesh.ReasonNoCertificate, fmt.Errorf("no certificate for %s yet: %w", id, e.whyNot()))
	}
	if m.bundle.Load() == nil {
		return mesh.Fail(mesh.ReasonNoCertificate, errNoAnchors)
	}
	if err := checkTime(cert.leaf, time.Now()); err != nil {
		return mesh.Fail(mesh.ReasonNoCertificate, fmt.Errorf("%s: %w (%w)", id, err, e.whyNot()))
	}
	return nil
}

var errRequested = errors.New("it has been requested")

// whyNot returns why there is no newer certificate.
func (e *entry) whyNot() error {
	if err := e.lastError(); err != nil {
		return err
	}
	return errRequested
}

func (e *entry) lastError() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.lastErr
}

func (m *Manager) newClientConfig(e *entry, key clientKey) *tls.Config {
	offer := []string{key.alpn}
	switch key.alpn {
	case ALPNMux:
		offer = append(offer, ALPNHTTP1)
	case ALPNStreams, ALPNTCPAlone:
		offer = append(offer, ALPNTCP)
	}
	c := baseConfig(offer)
	// VerifyConnection checks the chain, the names and the identity. The standard
	// checks are for host names, which the mesh does not use.
	c.InsecureSkipVerify = true
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return e.current() }
	c.VerifyConnection = m.verifyConnection(key.expect, x509.ExtKeyUsageServerAuth)
	return c
}

func (m *Manager) newServerConfig(e *entry) *tls.Config {
	c := baseConfig(meshALPN)
	c.ClientAuth = tls.RequireAnyClientCert
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return e.current() }
	c.VerifyConnection = m.verifyConnection(mesh.Identity{}, x509.ExtKeyUsageClientAuth)
	return c
}

// baseConfig returns what both sides have in common. Session tickets are off:
// connections are pooled and live long, so resumption would save little, and a
// ticket would stay valid after the peer's certificate has expired or its trust
// anchor was removed.
func baseConfig(alpn []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             alpn,
		SessionTicketsDisabled: true,
		// Dynamic sizing begins with small records, which saves a browser a round
		// trip. Between nodes each record only costs a system call.
		DynamicRecordSizingDisabled: true,
	}
}

func (e *entry) current() (*tls.Certificate, error) {
	cert := e.cert.Load()
	if cert == nil {
		return nil, mesh.Fail(mesh.ReasonNoCertificate, fmt.Errorf("no certificate for %s", e.id))
	}
	return &cert.tls, nil
}

// verifyConnection returns a VerifyConnection callback. It is called at the end
// of every handshake, including resumed ones (VerifyPeerCertificate is not).
func (m *Manager) verifyConnection(expect mesh.Identity, usage x509.ExtKeyUsage) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		v := verifier{bundle: m.bundle.Load(), trustDomain: m.trustDomain, expect: expect, usage: usage, now: time.Now()}
		if err := v.verify(cs.PeerCertificates); err != nil {
			return err
		}
		if !slices.Contains(meshALPN, cs.NegotiatedProtocol) {
			return mesh.Fail(mesh.ReasonTLSFailed, fmt.Errorf("the peer agreed to no mesh ALPN (%q): it is not an agent", cs.NegotiatedProtocol))
		}
		return nil
	}
}

// Admitting returns a copy of a ServerConfig for one connection. When the peer's
// certificate is verified, admit decides whether the peer may use the identity in
// it; an error refuses the peer. admit may wait: the client sends nothing more until
// its handshake is answered.
//
// crypto/tls has not checked yet that the peer has the certificate's key. The
// identity is proved when the handshake is complete.
func Admitting(config *tls.Config, admit func(mesh.Identity) error) *tls.Config {
	c := config.Clone()
	verify := c.VerifyConnection
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := verify(cs); err != nil {
			return err
		}
		id, err := PeerIdentity(cs)
		if err != nil {
			return err
		}
		return admit(id)
	}
	return c
}
