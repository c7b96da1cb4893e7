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

// maxSigning bounds the requests to the authority that are under way at once.
const maxSigning = 8

// Manager owns the certificates of the identities that run on this node. It
// is safe for concurrent use.
type Manager struct {
	signer      Signer
	trustDomain string
	log         *slog.Logger

	bundle  atomic.Pointer[bundle] // nil until the first anchors are known
	signing chan struct{}          // a slot per request under way
	wake    chan struct{}          // tells Run that entries changed

	refreshes, failures atomic.Uint64

	mu      sync.RWMutex
	entries map[mesh.Identity]*entry
}

// entry is one identity. Its configs are made once and look the certificate
// and the bundle up at each handshake, so nothing has to be swapped in them.
type entry struct {
	id     mesh.Identity
	server *tls.Config
	cert   atomic.Pointer[certificate] // nil until first issued

	rotated chan struct{} // the authority's root is being replaced

	life context.Context // ends when the node no longer needs the identity
	drop context.CancelFunc

	mu      sync.RWMutex
	clients map[clientKey]*tls.Config
	lastErr error // of the latest attempt; nil after a success
	started bool  // a goroutine of Run keeps it fresh
}

// certificate is an issued certificate with its key. Immutable.
type certificate struct {
	tls    tls.Certificate
	leaf   *x509.Certificate
	issued time.Time // local clock
}

// NewManager makes a Manager that has no identity and no trust anchor yet.
// Nothing is requested before Run.
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

// SetIdentities declares which certificates the node needs, all of them: new
// ones are requested at once, those no longer named are forgotten together
// with their keys. Connections already made with them live on.
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
			e.drop()
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

func (m *Manager) entry(id mesh.Identity) *entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.entries[id]
}

// Run requests and renews certificates until ctx ends. It is called once.
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

// unstarted returns the entries that nobody keeps fresh yet, marked as started.
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
