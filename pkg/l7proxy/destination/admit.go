package destination

import (
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
)

// rateLimits hold what this node's pods let in: requests, and connections that
// are not looked into.
type rateLimits struct {
	mu    sync.RWMutex
	byPod map[string]*podLimit // by UID
}

// podLimit is what one pod lets in. It is made anew when what it allows changes.
type podLimit struct {
	total, client *mesh.RateLimit // as its settings say
	rate          limit.Rate      // of total
	bucket        limit.Bucket
	clients       *limit.Keyed[mesh.Identity] // of client
}

// limitedClients bounds the identities that are told apart at a time.
const limitedClients = 10000

// admit takes one request of a client from what w lets in. Clients without an
// identity are one client together.
func (r *rateLimits) admit(w *mesh.Workload, client mesh.Identity) error {
	if w.Settings.RateLimit == nil && w.Settings.ClientRateLimit == nil {
		return nil
	}
	p, err := r.of(w)
	if err != nil {
		return mesh.Fail(mesh.ReasonOverload, err)
	}
	// A client's own limit first: what it may not do must not use up what the
	// others may.
	now := balance.Now()
	if p.clients != nil {
		if ok, _ := p.clients.Take(now, client); !ok {
			return mesh.Fail(mesh.ReasonRateLimited, nil)
		}
	}
	if p.total != nil {
		if ok, _ := p.bucket.Take(now, p.rate); !ok {
			return mesh.Fail(mesh.ReasonRateLimited, nil)
		}
	}
	return nil
}

func (r *rateLimits) of(w *mesh.Workload) (*podLimit, error) {
	s := &w.Settings
	r.mu.RLock()
	p := r.byPod[w.UID]
	r.mu.RUnlock()
	if p != nil && same(p.total, s.RateLimit) && same(p.client, s.ClientRateLimit) {
		return p, nil
	}
	p = &podLimit{total: s.RateLimit, client: s.ClientRateLimit}
	var err error
	if p.total != nil {
		if p.rate, err = rateOf(p.total); err != nil {
			return nil, err
		}
	}
	if p.client != nil {
		rate, err := rateOf(p.client)
		if err != nil {
			return nil, err
		}
		p.clients = limit.NewKeyed[mesh.Identity](rate, limitedClients)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if was := r.byPod[w.UID]; was != nil && same(was.total, p.total) && same(was.client, p.client) {
		return was, nil // somebody was quicker
	}
	if r.byPod == nil {
		r.byPod = make(map[string]*podLimit)
	}
	r.byPod[w.UID] = p
	return p, nil
}

func rateOf(r *mesh.RateLimit) (limit.Rate, error) {
	return limit.NewRate(r.Count, r.Period, r.Burst)
}

func same(a, b *mesh.RateLimit) bool { return a == b || a != nil && b != nil && *a == *b }

// forget drops the limits of pods that are gone.
func (r *rateLimits) forget(known func(uid string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid := range r.byPod {
		if !known(uid) {
			delete(r.byPod, uid)
		}
	}
}
