package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// maxSigning bounds the concurrent requests to the authority.
const maxSigning = 8

// Manager owns the certificates of all identities that run on this node. It is
// safe for concurrent use.
type Manager struct {
	signer      Signer
	trustDomain string
	log         *slog.Logger

	bundle  atomic.Pointer[bundle] // nil until the first anchors are known
	signing chan struct{}          // holds an element for each request to the authority
	wake    chan struct{}          // tells Run that entries changed

	refreshes, failures atomic.Uint64

	mu      sync.RWMutex
	entries map[mesh.Identity]*entry
}

// entry is the state of one identity. Its configs are made once. They look up
// the certificate and the bundle at each handshake, so they never have to change.
type entry struct {
	id     mesh.Identity
	server *tls.Config
	cert   atomic.Pointer[certificate] // nil until first issued

	rotated chan struct{} // tells keepFresh that the authority's root is being replaced

	life context.Context // ends when the node no longer needs the identity
	drop context.CancelFunc

	mu      sync.RWMutex
	clients map[clientKey]*tls.Config
	lastErr error // of the latest attempt; nil after a success
	started bool  // Run has started a goroutine that keeps it fresh
	dropped bool  // the node no longer needs the identity
}

// certificate is an issued certificate with its key. Immutable.
type certificate struct {
	tls    tls.Certificate
	leaf   *x509.Certificate
	issued time.Time // by the local clock
}

// NewManager makes a Manager without identities and trust anchors. It requests
// nothing before Run.
func NewManager(signer Signer, trustDomain string, log *slog.Logger) *Manager {
	return &Manager{
		signer:      signer,
		trustDomain: trustDomain,
		log:         log,
		signing:     make(chan struct{}, maxSigning),
		wake:        make(chan struct{}, 1),
		entries:     map[mesh.Identity]*entry{},
	}
}

// SetIdentities sets the identities for which the node needs certificates.
// Certificates of new ones are requested at once. Those of identities that are no
// longer listed are forgotten at once, together with their keys: also handshakes that
// are under way fail. Connections that were made with them continue.
func (m *Manager) SetIdentities(ids []mesh.Identity) {
	want := make(map[mesh.Identity]bool, len(ids))
	for _, id := range ids {
		want[id] = !id.IsZero()
	}
	delete(want, mesh.Identity{})

	m.mu.Lock()
	defer m.mu.Unlock()
	for id, e := range m.entries {
		if !want[id] {
			delete(m.entries, id)
			e.forget()
		}
	}
	for id := range want {
		if m.entries[id] == nil {
			m.entries[id] = m.newEntry(id)
		}
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Manager) newEntry(id mesh.Identity) *entry {
	e := &entry{id: id, clients: map[clientKey]*tls.Config{}, rotated: make(chan struct{}, 1)}
	e.life, e.drop = context.WithCancel(context.Background())
	e.server = m.newServerConfig(e)
	return e
}

// forget drops the certificate with its key, and the configs. A config that a
// handshake or a connection still has refers to e, so the key would live as long as
// they do.
func (e *entry) forget() {
	e.drop()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropped = true
	e.cert.Store(nil)
	clear(e.clients)
}

// use makes cert the certificate of e, unless e was dropped meanwhile.
func (e *entry) use(cert *certificate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.dropped {
		e.cert.Store(cert)
	}
}

func (m *Manager) entry(id mesh.Identity) *entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.entries[id]
}

// Run requests and renews certificates until ctx ends. It must be called once.
func (m *Manager) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		for _, e := range m.unstarted() {
			wg.Go(func() { m.keepFresh(ctx, e) })
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
	}
}

// unstarted returns the entries that no goroutine keeps fresh yet, and marks them
// as started.
func (m *Manager) unstarted() []*entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []*entry
	for _, e := range m.entries {
		if e.start() {
			out = append(out, e)
		}
	}
	return out
}

func (e *entry) start() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	first := !e.started
	e.started = true
	return first
}
