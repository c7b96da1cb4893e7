package retry

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/limit"
	"github.com/underlane/underlane/pkg/mesh"
)

// slots divide a budget's interval: what leaves it leaves in steps of a tenth.
const slots = 10

// Budget bounds the retries to one Service: to a share of all requests of the
// last interval, retries among them, or to the minimal rate where that is more
// (GEP-3388). It is safe for concurrent use; the usual path takes no lock.
type Budget struct {
	percent uint64
	slot    time.Duration
	least   limit.Rate
	hasMin  bool

	minimum limit.Bucket
	turning sync.Mutex
	ring    [slots]slotCount
}

// slotCount counts the requests of one slot of time.
type slotCount struct {
	number   atomic.Int64 // of the slot since the clock's beginning, plus 1: 0 is never
	requests atomic.Uint64
	retries  atomic.Uint64
}

// NewBudget makes a budget that has seen no request.
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

// Retry takes one retry from the budget, and reports whether there was one.
func (b *Budget) Retry(now time.Duration) bool {
	slot := b.at(now)
	// Counted first and given back if it was too much: of several at the same
	// time, too few may be allowed, never too many.
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

// at is the slot of now. Who comes there first clears what it counted an
// interval ago.
func (b *Budget) at(now time.Duration) *slotCount {
	n := b.number(now)
	s := &b.ring[n%slots]
	if s.number.Load() >= n {
		return s
	}
	b.turning.Lock()
	defer b.turning.Unlock()
	if s.number.Load() < n {
		s.requests.Store(0)
		s.retries.Store(0)
		s.number.Store(n)
	}
	return s
}

// sum counts the interval that ends with now.
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
