package destination

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/state"
)

// limits apply the RateLimitPolicies of this node's pods.
type limits struct {
	table *lease.Table

	mu sync.RWMutex
	by map[*authz.Limit]*lease.Pool
}

// apply counts a request that d allows, whose facts are f, for each limit that is about it. If
// the request is over one, d says so, and the request has counted for none.
func (l *limits) apply(all []authz.CompiledLimit, f *facts, client mesh.Identity, d *authz.Decision) {
	now := balance.Now()
	for i := range all {
		of := &all[i]
		if !of.Limits(&f.connection, &f.request) {
			continue
		}
		f.value.Reset()
		of.Value(&f.connection, &f.request, &f.value)
		b := l.pool(of).Take(now, client, &f.value)
		if b == nil {
			for _, b := range f.taken {
				b.GiveBack()
			}
			*d = of.Over(*d)
			break
		}
		f.taken = append(f.taken, b)
	}
	clear(f.taken)
	f.taken = f.taken[:0]
}

// ManyValues counts requests that were limited together with others because a limit had too
// many values.
func (d *admission) ManyValues() uint64 { return d.limits.table.Over() }

func (l *limits) pool(of *authz.CompiledLimit) *lease.Pool {
	l.mu.RLock()
	p := l.by[of.Limit]
	l.mu.RUnlock()
	if p != nil && p.Current() {
		return p
	}
	p = l.table.Pool(lease.Limit{Name: of.ID, Rate: of.PerSecond(), Burst: float64(of.Burst), Nodes: int(of.Nodes)})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = make(map[*authz.Limit]*lease.Pool)
	}
	l.by[of.Limit] = p
	return p
}

// forget drops limits that are not in force any more, and values that are not used.
func (l *limits) forget(v *state.View, now time.Duration) {
	l.mu.Lock()
	clear(l.by) // what is used comes again
	l.mu.Unlock()
	l.table.Keep(func(limit string) bool {
		for _, w := range v.Local() {
			if w.Limited && v.Authz(w.UID).HasLimit(limit) {
				return true
			}
		}
		return false
	})
	l.table.Sweep(now)
}
