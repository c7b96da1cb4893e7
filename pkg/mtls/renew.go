package mtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/url"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

const (
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 15 * time.Second
	signTimeout  = 20 * time.Second

	// clockCheck bounds one sleep. Timers stop while a machine is suspended, but
	// certificates still expire.
	clockCheck = time.Minute

	// A new anchor is distributed some time before the authority signs with it
	// (rotationWait). The renewals of the nodes are then spread over a period, so
	// that they do not all come at once.
	rotationWait   = 45 * time.Second
	rotationSpread = 45 * time.Second
)

// keepFresh requests e's certificate and renews it until ctx ends or e is
// dropped.
func (m *Manager) keepFresh(ctx context.Context, e *entry) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	backoff := firstBackoff
	for {
		var due time.Time
		switch cert, err := m.issue(ctx, e); {
		case ctx.Err() != nil:
			return
		case err != nil:
			m.failures.Add(1)
			m.noteFailure(e, err)
			due = time.Now().Add(retryDelay(backoff, e.cert.Load(), time.Now()))
			backoff = min(2*backoff, maxBackoff)
		default:
			e.use(cert)
			m.refreshes.Add(1)
			m.noteSuccess(e, cert)
			due = renewalTime(cert, mathrand.Float64())
			backoff = firstBackoff
		}
		if !sleepUntil(ctx, due, e.rotated) {
			return
		}
	}
}

// renewalTime returns when to renew a certificate: at 45 to 50 % of its lifetime.
// Half of it is left for the case that the controller is away. Certificates that were
// issued together are not renewed together. jitter is in [0, 1).
func renewalTime(c *certificate, jitter float64) time.Time {
	life := c.leaf.NotAfter.Sub(c.issued)
	return c.issued.Add(time.Duration(float64(life) * (0.50 - 0.05*jitter)))
}

// retryDelay returns the back-off with jitter. It is shorter if the certificate
// in use would otherwise expire before several more attempts.
func retryDelay(backoff time.Duration, c *certificate, now time.Time) time.Duration {
	if c != nil {
		if left := c.leaf.NotAfter.Sub(now); left > 0 {
			backoff = min(backoff, max(left/4, firstBackoff))
		}
	}
	return backoff/2 + mathrand.N(backoff/2+1)
}

// sleepUntil sleeps until t by the wall clock, or less if the authority's root
// was replaced and the certificate has to be renewed. It returns false if ctx
// ended first.
func sleepUntil(ctx context.Context, t time.Time, rotated <-chan struct{}) bool {
	t = t.Round(0) // the wall clock, not the monotonic one
	for {
		left := time.Until(t)
		if left <= 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(min(left, clockCheck))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-rotated:
			timer.Stop()
			if soon := time.Now().Add(rotationWait + mathrand.N(rotationSpread)).Round(0); soon.Before(t) {
				t = soon
			}
		case <-timer.C:
		}
	}
}

// issue requests a certificate and checks it. A wrong answer is then a failed
// renewal here, rather than a failed handshake with every peer.
func (m *Manager) issue(ctx context.Context, e *entry) (*certificate, error) {
	select {
	case m.signing <- struct{}{}:
		defer func() { <-m.signing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	key, csr, err := newRequest(e.id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	issued, err := m.signer.SignWorkload(ctx, e.id, csr)
	if err != nil {
		return nil, fmt.Errorf("request certificate: %w", err)
	}
	b := m.bundle.Load()
	if len(issued.Anchors) > 0 {
		if b, err = newBundle(issued.Anchors); err != nil {
			return nil, fmt.Errorf("the authority's answer: %w", err)
		}
	}
	cert, err := m.checkIssued(e.id, key, issued.Chain, b)
	if err != nil {
		return nil, fmt.Errorf("the authority's answer: %w", err)
	}
	if len(issued.Anchors) > 0 {
		m.trust(b)
	}
	return cert, nil
}

// newRequest makes a key and a PKCS #10 request for it. Each renewal has a new
// key, so that a leaked key is useful only until its certificate expires.
func newRequest(id mesh.Identity) (*ecdsa.PrivateKey, []byte, error) {
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, nil, fmt.Errorf("make request: identity: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make request: generate key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make request: %w", err)
	}
	return key, csr, nil
}

func (m *Manager) checkIssued(id mesh.Identity, key *ecdsa.PrivateKey, chain [][]byte, b *bundle) (*certificate, error) {
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in it")
	}
	leaf := certs[0]
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	now := time.Now()
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		v := verifier{bundle: b, trustDomain: m.trustDomain, expect: id, usage: usage, now: now}
		if err := v.verify(certs); err != nil {
			return nil, err
		}
	}
	return &certificate{
		tls:    tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf},
		leaf:   leaf,
		issued: now,
	}, nil
}

func (m *Manager) noteFailure(e *entry, err error) {
	e.mu.Lock()
	first := e.lastErr == nil
	e.lastErr = err
	e.mu.Unlock()
	level := slog.LevelDebug // warn once for each change of state, not for each attempt
	if first {
		level = slog.LevelWarn
	}
	m.log.Log(context.Background(), level, "workload certificate: request failed, will retry",
		"identity", e.id.String(), "err", err)
}

func (m *Manager) noteSuccess(e *entry, c *certificate) {
	e.mu.Lock()
	e.lastErr = nil
	e.mu.Unlock()
	m.log.Debug("workload certificate issued", "identity", e.id.String(), "not_after", c.leaf.NotAfter)
}
