package lease

import (
	"cmp"
	"slices"
	"time"
)

// Use is what one bucket has on a node.
type Use struct {
	Limit   string  `json:"limit"`
	Value   string  `json:"value,omitempty"` // for people; "" if the limit distinguishes nothing
	Other   bool    `json:"other,omitempty"` // the bucket of the values beyond the bounds
	Rate    float64 `json:"rate"`            // of the node, in requests a second
	Leased  bool    `json:"leased"`          // Rate is the share of a lease
	Wanted  uint64  `json:"wanted"`
	Refused uint64  `json:"refused"`
}

// List returns the buckets, those with most requests first.
func (t *Table) List(now time.Duration) (out []Use) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, p := range t.pools {
		p.mu.RLock()
		for b := range p.all() {
			out = append(out, b.use(now))
		}
		p.mu.RUnlock()
	}
	slices.SortFunc(out, func(a, b Use) int {
		return cmp.Or(cmp.Compare(b.Wanted, a.Wanted), cmp.Compare(a.Limit, b.Limit), cmp.Compare(a.Value, b.Value))
	})
	return out
}

func (b *Bucket) use(now time.Duration) Use {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now)
	return Use{
		Limit: b.pool.limit.Name, Value: readable(b.value), Other: b.other, Rate: b.rate,
		Leased: b.lent >= 0 && now < time.Duration(b.pool.table.until.Load()), Wanted: b.wanted, Refused: b.refused,
	}
}
