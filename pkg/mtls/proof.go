package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// Proof is what the handshake of a connection has proved, so that it can be asked later
// whether another handshake would prove it again: each stream of a shared connection stands
// for a connection of its own. Its methods are safe for concurrent use.
type Proof struct {
	m      *Manager
	source mesh.Identity
	own    *certificate // of source; nil: that this end's certificate is another one now is no matter
	expect mesh.Identity
	usage  x509.ExtKeyUsage
	chain  []*x509.Certificate
	until  time.Time              // when the first certificate of the chain expires
	bundle atomic.Pointer[bundle] // with which the chain was verified last
}

// ClientProof is the Proof of a connection that was made with ClientConfig(source, expect, …).
func (m *Manager) ClientProof(source, expect mesh.Identity, cs tls.ConnectionState) *Proof {
	p := m.proof(expect, x509.ExtKeyUsageServerAuth, cs)
	p.source, p.own = source, m.certificate(source)
	return p
}

// ServerProof is the Proof of a connection that was accepted with a ServerConfig.
func (m *Manager) ServerProof(cs tls.ConnectionState) *Proof {
	return m.proof(mesh.Identity{}, x509.ExtKeyUsageClientAuth, cs)
}

func (m *Manager) proof(expect mesh.Identity, usage x509.ExtKeyUsage, cs tls.ConnectionState) *Proof {
	p := &Proof{m: m, expect: expect, usage: usage, chain: cs.PeerCertificates}
	for i, c := range p.chain {
		if i == 0 || c.NotAfter.Before(p.until) {
			p.until = c.NotAfter
		}
	}
	return p
}

func (m *Manager) certificate(id mesh.Identity) *certificate {
	if e := m.entry(id); e != nil {
		return e.cert.Load()
	}
	return nil
}

// Holds reports whether the peer's certificate is valid now, by the trust anchors of now, and,
// at the client's end, whether this end still has the certificate of the handshake. It is true
// for a nil Proof.
func (p *Proof) Holds() bool {
	if p == nil {
		return true
	}
	now := time.Now()
	if now.After(p.until) || p.own != nil && p.m.certificate(p.source) != p.own {
		return false
	}
	b := p.m.bundle.Load()
	if b == p.bundle.Load() {
		return true
	}
	v := verifier{bundle: b, trustDomain: p.m.trustDomain, expect: p.expect, usage: p.usage, now: now}
	if v.verify(p.chain) != nil {
		return false
	}
	p.bundle.Store(b)
	return true
}
