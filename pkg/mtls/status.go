package mtls

import (
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// CertState is the state of a certificate.
type CertState string

const (
	CertPending CertState = "pending" // none issued yet
	CertValid   CertState = "valid"
	CertStale   CertState = "stale" // valid, but its renewal fails
	CertExpired CertState = "expired"
)

// CertStatus describes the certificate of one identity.
type CertStatus struct {
	Identity  mesh.Identity
	NotBefore time.Time // zero while pending
	NotAfter  time.Time // zero while pending
	SerialHex string    // "" while pending
	State     CertState
	LastError string // error of the latest request, "" after a success

	Chain [][]byte `json:"-"` // DER, leaf first; nil while pending
}

// Stats are the Manager's counters since the start, and its trust anchors.
type Stats struct {
	Refreshes uint64 // certificates issued
	Failures  uint64 // requests that failed
	Anchors   []AnchorStatus
}

// AnchorStatus describes one trust anchor.
type AnchorStatus struct {
	Subject   string
	SerialHex string
	NotAfter  time.Time
}

// Status returns the status of all certificates that the node needs, sorted by
// identity.
func (m *Manager) Status() []CertStatus {
	m.mu.RLock()
	out := make([]CertStatus, 0, len(m.entries))
	for _, e := range m.entries {
		out = append(out, e.status(time.Now()))
	}
	m.mu.RUnlock()
	slices.SortFunc(out, func(a, b CertStatus) int {
		return strings.Compare(a.Identity.String(), b.Identity.String())
	})
	return out
}

func (e *entry) status(now time.Time) CertStatus {
	s := CertStatus{Identity: e.id, State: CertPending}
	err := e.lastError()
	if err != nil {
		s.LastError = err.Error()
	}
	cert := e.cert.Load()
	if cert == nil {
		return s
	}
	s.NotBefore, s.NotAfter = cert.leaf.NotBefore, cert.leaf.NotAfter
	s.SerialHex, s.Chain = cert.leaf.SerialNumber.Text(16), cert.tls.Certificate
	switch {
	case now.After(s.NotAfter):
		s.State = CertExpired
	case err != nil:
		s.State = CertStale
	default:
		s.State = CertValid
	}
	return s
}

// Stats returns the counters and the trust anchors.
func (m *Manager) Stats() Stats {
	s := Stats{Refreshes: m.refreshes.Load(), Failures: m.failures.Load()}
	if b := m.bundle.Load(); b != nil {
		for _, c := range b.certs {
			s.Anchors = append(s.Anchors, AnchorStatus{
				Subject: c.Subject.String(), SerialHex: c.SerialNumber.Text(16), NotAfter: c.NotAfter,
			})
		}
	}
	return s
}
