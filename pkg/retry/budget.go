package retry

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
)

// slots is the number of parts of a budget's interval. The interval advances by
// one part at a time.
const slots = 10

// Budget bounds the retries to one Service. They may be a share of all requests
// of the last interval, including retries, or come at the minimum rate, whichever
// is more (GEP-3388). It is safe for concurrent use; the usual path takes no lock.
type Budget struct {
	percent uint64
	slot    time.Duration
	least   limit.Rate
	hasMin  bool

	minimum limit.Bucket
	clearMu sync.Mutex // held while at clears a slot
	ring    [slots]slotCount
}

// slotCount counts the requests of one slot of time.
type slotCount struct {
	number   atomic.Int64 // 1 plus the number of slots since time 0; 0: not used yet
	requests atomic.Uint64
	retries  atomic.Uint64
}

// NewBudget makes a budget that has seen no request. It fails if a field of b is
// out of its range.
func NewBudget(b mesh.RetryBudget) (*Budget, error) {
	if b.Percent < 0 || b.Percent > 100 {
		return nil, fmt.Errorf("retry budget: %d percent", b.Percent)
	}
	if b.Interval < time.Second || b.Interval > time.Hour {
		return nil, fmt.Errorf("retry budget: an interval of %v: want 1s to 1h", b.Interval)
	}
	budget := &Budget{percent: uint64(b.Percent), slot: b.Interval / slots}
	if b.MinRetries > 0 {
		least, err := limit.NewRate(b.MinRetries, b.MinInterval, b.MinRetries)
		if err != nil {
			return nil, fmt.Errorf("retry budget: minimum: %w", err)
		}
		budget.least, budget.hasMin = least, true
	}
	return budget, nil
}

// Request counts a request, at its first attempt.
func (b *Budget) Request(now time.Duration) { b.at(now).requests.Add(1) }

// Retry takes one retry from the budget and reports whether one was left.
func (b *Budget) Retry(now time.Duration) bool {
	slot := b.at(now)
	// Count the retry first, and take it back if it was too many. Of several
	// concurrent retries, too few may then be allowed, but never too many.
	slot.retries.Add(1)
	if b.hasMin {
		if ok, _ := b.minimum.Take(now, b.least); ok {
			return true
		}
	}
	requests, retries := b.sum(now)
	if retries*100 <= b.percent*(requests+retries) {
		return true
	}
	slot.retries.Add(^uint64(0))
	return false
}

func (b *Budget) number(now time.Duration) int64 { return int64(now/b.slot) + 1 }

// at returns the slot of now. The first call in a slot clears the counts from an
// interval ago.
func (b *Budget) at(now time.Duration) *slotCount {
	n := b.number(now)
	s := &b.ring[n%slots]
	if s.number.Load() >= n {
		return s
	}
	b.clearMu.Lock()
	defer b.clearMu.Unlock()
	if s.number.Load() < n {
		s.requests.Store(0)
		s.retries.Store(0)
		s.number.Store(n)
	}
	return s
}

// sum returns the counts of the interval that ends at now.
func (b *Budget) sum(now time.Duration) (requests, retries uint64) {
	oldest := b.number(now) - slots + 1
	for i := range b.ring {
		if s := &b.ring[i]; s.number.Load() >= oldest {
			requests += s.requests.Load()
			retries += s.retries.Load()
		}
	}
	return requests, retries
}
