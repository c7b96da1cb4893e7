package calls

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Call is an Entry with its counts in some time.
type Call struct {
	Key
	Finding *authz.Finding
	Pod     *mesh.Workload
	From    netip.Addr // of the client; zero: several, or not known
	Calls   uint64
	Failed  uint64 // of Calls
	Open    uint64 // connections that are open now, whenever they were opened
}

// List is what a Store has of some time.
type List struct {
	Calls []Call // in the order of pods, the most frequent first
	// Seconds is the time that the counts are of: whole steps, the last one not complete.
	Seconds float64
	Lost    uint64 // calls since the start of which nothing is known but their number
}

// List returns the calls of the last window that pods which match have had.
func (s *Store) List(window time.Duration, match func(*mesh.Workload) bool) List {
	now := s.now()
	last := s.step()
	steps := min(max(int64((window+Step-1)/Step), 1), int64(slots)-1)
	first := last - steps
	begin := time.Unix(first*int64(Step/time.Second), 0)
	out := List{Seconds: now.Sub(begin).Seconds()}
	s.mu.Lock()
	s.sweep()
	out.Lost = s.lost
	for _, p := range s.pods {
		for _, e := range p.calls {
			if !match(e.Pod) {
				break
			}
			calls, failed := e.between(first, last)
			if open := uint64(max(0, e.open.Load())); calls+open > 0 {
				out.Calls = append(out.Calls, Call{e.Key, e.Finding, e.Pod, e.From(), calls, min(failed, calls), open})
			}
		}
	}
	s.mu.Unlock()
	slices.SortFunc(out.Calls, func(a, b Call) int {
		return cmp.Or(cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name), cmp.Compare(b.Calls, a.Calls),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Client.String(), b.Client.String()))
	})
	return out
}

// Total are the labels of a counter of decisions.
type Total struct {
	Namespace, Kind, Name string // of the server's owner
	Object, Rule          string
	Verdict               string // allowed, denied, audited
}

// Other replaces the names of a Total beyond maxTotals.
const Other = "other"

// maxTotals bounds the counters of decisions. They are never forgotten.
const maxTotals = 256

func (s *Store) total(w *mesh.Workload, f *authz.Finding) *atomic.Uint64 {
	k := Total{w.Namespace, w.OwnerKind, w.OwnerName, f.Object, f.Rule, f.Verdict()}
	n := s.totals[k]
	if n == nil && len(s.totals) >= maxTotals {
		k = Total{Other, Other, Other, Other, "", k.Verdict}
		n = s.totals[k]
	}
	if n == nil {
		n = new(atomic.Uint64)
		s.totals[k] = n
	}
	return n
}

// Totals returns the decisions since the start.
func (s *Store) Totals() map[Total]uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[Total]uint64, len(s.totals))
	for k, n := range s.totals {
		out[k] = n.Load()
	}
	return out
}
