package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/certchain"
)

// bundle is an immutable set of trust anchors.
type bundle struct {
	pool  *x509.CertPool
	certs []*x509.Certificate
}

func newBundle(der [][]byte) (*bundle, error) {
	if len(der) == 0 {
		return nil, errors.New("trust bundle: no anchor in it")
	}
	b := &bundle{pool: x509.NewCertPool()}
	for i, d := range der {
		c, err := x509.ParseCertificate(d)
		if err != nil {
			return nil, fmt.Errorf("trust bundle: anchor %d of %d: %w", i+1, len(der), err)
		}
		b.pool.AddCert(c)
		b.certs = append(b.certs, c)
	}
	return b, nil
}

// SetAnchors replaces the trust bundle (DER certificates) for all later
// handshakes. If the bundle is empty or has an invalid anchor, it returns an
// error and keeps the old bundle.
func (m *Manager) SetAnchors(der [][]byte) error {
	b, err := newBundle(der)
	if err != nil {
		return err
	}
	m.trust(b)
	return nil
}

// trust starts using a bundle. A new anchor in it means that the authority's root
// is being replaced. Certificates are then renewed soon, so that the old anchor
// can be removed.
func (m *Manager) trust(b *bundle) {
	old := m.bundle.Swap(b)
	if old == nil || !b.addsTo(old) {
		return
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, e := range m.entries {
		select {
		case e.rotated <- struct{}{}:
		default:
		}
	}
}

// addsTo reports whether b has an anchor that old does not have.
func (b *bundle) addsTo(old *bundle) bool {
	return slices.ContainsFunc(b.certs, func(c *x509.Certificate) bool { return !slices.ContainsFunc(old.certs, c.Equal) })
}

// PeerIdentity returns the identity in the peer's certificate, which the
// handshake has verified. It returns an error if cs is not the state of a mesh
// connection.
func PeerIdentity(cs tls.ConnectionState) (mesh.Identity, error) {
	if len(cs.PeerCertificates) == 0 {
		return mesh.Identity{}, mesh.Fail(mesh.ReasonTLSPeer, errNoPeerCertificate)
	}
	id, err := certIdentity(cs.PeerCertificates[0])
	if err != nil {
		return mesh.Identity{}, mesh.Fail(mesh.ReasonTLSPeer, err)
	}
	return id, nil
}

var errNoPeerCertificate = errors.New("the peer sent no certificate")

// certIdentity returns the identity in a leaf. The error wraps errNotAgent if the
// certificate has no SPIFFE identity at all.
func certIdentity(leaf *x509.Certificate) (mesh.Identity, error) {
	id, err := svidIdentity(leaf)
	if err != nil && !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.Scheme == "spiffe" }) {
		err = fmt.Errorf("%w: %w", errNotAgent, err)
	}
	return id, err
}

// svidIdentity parses the URI name of an X509-SVID leaf (X509-SVID standard,
// sections 2 and 4: exactly one URI, never a CA).
func svidIdentity(leaf *x509.Certificate) (mesh.Identity, error) {
	if leaf.IsCA {
		return mesh.Identity{}, errors.New("the peer sent a CA certificate as its own")
	}
	if n := len(leaf.URIs); n != 1 {
		return mesh.Identity{}, fmt.Errorf("the peer's certificate has %d URI names, want exactly one", n)
	}
	id, err := mesh.ParseIdentity(leaf.URIs[0].String())
	if err != nil {
		return mesh.Identity{}, fmt.Errorf("the peer's certificate: %w", err)
	}
	return id, nil
}

// verifier has what is needed to verify a peer's chain.
type verifier struct {
	bundle      *bundle
	trustDomain string
	expect      mesh.Identity // zero: any identity of the trust domain
	usage       x509.ExtKeyUsage
	now         time.Time
}

// verify checks a chain, leaf first. Its error is a *mesh.ReasonError. The reason
// is ReasonTLSIdentity only if the certificate is good in all other respects.
func (v *verifier) verify(chain []*x509.Certificate) error {
	id, err := v.authenticate(chain)
	if err != nil {
		return mesh.Fail(mesh.ReasonTLSPeer, err)
	}
	if !v.expect.IsZero() && id != v.expect {
		return mesh.Fail(mesh.ReasonTLSIdentity,
			fmt.Errorf("the peer is %s, expected %s: its address may have passed to another pod a moment ago", id, v.expect))
	}
	return nil
}

// authenticate returns the identity that a chain proves. The order of its checks
// is such that the error names the likeliest cause.
func (v *verifier) authenticate(chain []*x509.Certificate) (mesh.Identity, error) {
	if len(chain) == 0 {
		return mesh.Identity{}, errNoPeerCertificate
	}
	if v.bundle == nil {
		return mesh.Identity{}, errNoAnchors
	}
	leaf := chain[0]
	id, err := certIdentity(leaf)
	if err != nil {
		return mesh.Identity{}, err
	}
	if id.TrustDomain != v.trustDomain {
		return mesh.Identity{}, fmt.Errorf("the peer %s is not of trust domain %s", id, v.trustDomain)
	}
	if err := checkTime(leaf, v.now); err != nil {
		return mesh.Identity{}, fmt.Errorf("the peer %s: %w", id, err)
	}
	err = certchain.Verify(chain, x509.VerifyOptions{
		Roots:       v.bundle.pool,
		CurrentTime: v.now,
		KeyUsages:   []x509.ExtKeyUsage{v.usage},
	})
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return mesh.Identity{}, fmt.Errorf("the peer %s: its certificate is signed by none of our %d trust anchors: has the root been replaced? (%w)",
			id, len(v.bundle.certs), err)
	}
	if err != nil {
		return mesh.Identity{}, fmt.Errorf("the peer %s: %w", id, err)
	}
	return id, nil
}

var errNoAnchors = errors.New("no trust anchor is known yet: has this node reached the controller?")

// checkTime returns an error for a certificate outside its lifetime.
func checkTime(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("certificate expired %s ago: is the clock right?", now.Sub(c.NotAfter).Round(time.Second))
	case now.Before(c.NotBefore):
		return fmt.Errorf("certificate is not valid for another %s: is the clock right?", c.NotBefore.Sub(now).Round(time.Second))
	}
	return nil
}
