package destination

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// serverLimits have the rate limits that policies set for ports of this node's pods.
type serverLimits struct {
	mu sync.RWMutex
	by map[serverLimitKey]*serverLimit
}

// serverLimitKey names a limit: the UID of a pod, and the policy.
type serverLimitKey struct{ uid, policy string }

// serverLimit is the state of one limit. It is replaced when the limit changes.
type serverLimit struct {
	of        *authz.RateLimit
	total     *sharedLimit
	identity  *limit.Keyed[mesh.Identity]
	overrides map[mesh.Identity]*sharedLimit // those without a limit are nil
}

// sharedLimit is one that several clients share.
type sharedLimit struct {
	rate   limit.Rate
	bucket limit.Bucket
}

func (l *sharedLimit) take(now time.Duration) bool {
	if l == nil {
		return true
	}
	ok, _ := l.bucket.Take(now, l.rate)
	return ok
}

// admitRate counts a request, or an opaque connection, of a client at port of w. It fails if
// that is over a limit. The limits of policies count requests only.
func (d *admission) admitRate(w *mesh.Workload, port uint16, client mesh.Identity, request bool) error {
	if request && w.Authorized {
		if l := d.State.View().Authz(w.UID).RateLimit(port); l != nil {
			if err := d.serverLimits.admit(w.UID, l, client, balance.Now()); err != nil {
				return err
			}
		}
	}
	return d.rateLimits.admit(w, client)
}

// admit judges as Linkerd's proxy does: what its client may not send has counted for the
// total.
func (s *serverLimits) admit(uid string, of *authz.RateLimit, client mesh.Identity, now time.Duration) error {
	l, err := s.find(serverLimitKey{uid, of.Policy}, of)
	if err != nil {
		return mesh.Fail(mesh.ReasonOverload, err)
	}
	if !l.total.take(now) {
		return mesh.Fail(mesh.ReasonRateLimited, nil)
	}
	if own, ok := l.overrides[client]; ok && !client.IsZero() {
		if !own.take(now) {
			return mesh.Fail(mesh.ReasonRateLimited, nil)
		}
		return nil
	}
	if l.identity != nil {
		if ok, _ := l.identity.Take(now, client); !ok {
			return mesh.Fail(mesh.ReasonRateLimited, nil)
		}
	}
	return nil
}

func (s *serverLimits) find(key serverLimitKey, of *authz.RateLimit) (*serverLimit, error) {
	s.mu.RLock()
	l := s.by[key]
	s.mu.RUnlock()
	if l != nil && l.of.Equal(of) {
		return l, nil
	}
	made, err := newServerLimit(of)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.by[key]; l != nil && l.of.Equal(of) {
		return l, nil // another goroutine has made it meanwhile
	}
	if s.by == nil {
		s.by = make(map[serverLimitKey]*serverLimit)
	}
	s.by[key] = made
	return made, nil
}

// mostRate is the highest rate that is counted: one request in a nanosecond.
const mostRate = uint32(time.Second)

func newServerLimit(of *authz.RateLimit) (*serverLimit, error) {
	shared := func(n uint32) (*sharedLimit, error) {
		if n == 0 {
			return nil, nil
		}
		rate, err := limit.NewRate(int(min(n, mostRate)), time.Second, int(min(n, mostRate)))
		return &sharedLimit{rate: rate}, err
	}
	l := &serverLimit{of: of}
	var err error
	if l.total, err = shared(of.Total); err != nil {
		return nil, err
	}
	each, err := shared(of.Identity)
	if err != nil {
		return nil, err
	}
	if each != nil {
		l.identity = limit.NewKeyed[mesh.Identity](each.rate, limitedClients)
	}
	for i := range of.Overrides {
		own, err := shared(of.Overrides[i].RequestsPerSecond)
		if err != nil {
			return nil, err
		}
		for _, id := range of.Overrides[i].Clients {
			if l.overrides == nil {
				l.overrides = make(map[mesh.Identity]*sharedLimit)
			}
			if _, taken := l.overrides[id]; !taken {
				l.overrides[id] = own
			}
		}
	}
	return l, nil
}

// forget drops the limits that are not in force any more.
func (s *serverLimits) forget(rules func(uid string) *authz.Workload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.by {
		if !rules(key.uid).HasRateLimit(key.policy) {
			delete(s.by, key)
		}
	}
}

// ruledAt reports whether the agent of w has rules for requests to a port.
func (d *admission) ruledAt(w *mesh.Workload, port uint16) bool {
	return ruled(w) || w != nil && w.Authorized && d.State.View().Authz(w.UID).RateLimit(port) != nil
}
