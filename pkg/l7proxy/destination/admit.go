package destination

import (
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
)

// rateLimits has the rate limits of this node's pods, for requests and for opaque
// connections.
type rateLimits struct {
	mu    sync.RWMutex
	byPod map[string]*podLimit // by UID
}

// podLimit has the rate limits of one pod. It is replaced when the pod's settings change.
type podLimit struct {
	total, client *mesh.RateLimit // of the pod's settings
	rate          limit.Rate      // of total
	bucket        limit.Bucket
	clients       *limit.Keyed[mesh.Identity] // of client
}

// limitedClients bounds the clients of a pod that are limited separately at a time.
const limitedClients = 10000

// admit counts one request of a client at w. It fails if the request is over a limit. All
// clients without an identity together count as one client.
func (r *rateLimits) admit(w *mesh.Workload, client mesh.Identity) error {
	if w.Settings.RateLimit == nil && w.Settings.ClientRateLimit == nil {
		return nil
	}
	p, err := r.of(w)
	if err != nil {
		return mesh.Fail(mesh.ReasonOverload, err)
	}
	// Check the client's own limit first, so that a request over it does not use up the
	// total that all clients share.
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
		return was, nil // another goroutine has made it meanwhile
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
