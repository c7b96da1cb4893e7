package lease

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// Limit is one limit, as an agent has it.
type Limit struct {
	Name  string  // in the whole mesh
	Rate  float64 // requests a second. 0: none is let in
	Burst float64 // requests at once
	// Nodes are those that share the rate. 0: each node has the rate for itself.
	Nodes int
}

// Table has the buckets of a node. It is safe for concurrent use.
type Table struct {
	until atomic.Int64 // when the leases end
	over  atomic.Uint64
	wake  chan struct{} // receives when there is a bucket that the Ledger does not know

	mu    sync.RWMutex
	pools map[string]*Pool
	next  uint64             // id of the last bucket
	ids   map[uint64]*Bucket // those of shared limits
	gone  []uint64           // that the Ledger knows and that are not used any more
}

// NewTable returns an empty Table.
func NewTable() *Table {
	return &Table{pools: map[string]*Pool{}, ids: map[uint64]*Bucket{}, wake: make(chan struct{}, 1)}
}

// Pool has the buckets of one limit.
type Pool struct {
	table *Table
	limit Limit

	mu      sync.RWMutex
	buckets map[string]*Bucket
	other   *Bucket
	made    map[mesh.Identity]int // buckets, by the client that made them
	swept   time.Duration
	nodes   atomic.Int64 // limit.Nodes, which may change
	old     atomic.Bool  // replaced or forgotten
}

// Pool returns the buckets of a limit. If the limit has changed since the last call they are
// new ones. The caller keeps the Pool while Current says so.
func (t *Table) Pool(l Limit) *Pool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pools[l.Name]
	if p != nil && p.limit.Rate == l.Rate && p.limit.Burst == l.Burst && (p.limit.Nodes > 0) == (l.Nodes > 0) {
		p.nodes.Store(int64(l.Nodes))
		return p
	}
	if p != nil {
		t.drop(p)
	}
	p = &Pool{table: t, limit: l, buckets: map[string]*Bucket{}, made: map[mesh.Identity]int{}}
	p.nodes.Store(int64(l.Nodes))
	t.pools[l.Name] = p
	return p
}

// drop forgets a pool, with mu held.
func (t *Table) drop(p *Pool) {
	p.old.Store(true)
	delete(t.pools, p.limit.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	for b := range p.all() {
		t.forget(b)
	}
}

// forget notes that a bucket is gone, with mu held.
func (t *Table) forget(b *Bucket) {
	delete(t.ids, b.id)
	if b.known {
		t.gone = append(t.gone, b.id)
	}
}

// Keep drops the pools of limits that are not in force any more.
func (t *Table) Keep(inForce func(limit string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, p := range maps.Clone(t.pools) {
		if !inForce(name) {
			t.drop(p)
		}
	}
}

// Shares reports whether there are limits that nodes share.
func (t *Table) Shares() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, p := range t.pools {
		if p.shared() {
			return true
		}
	}
	return false
}

// Wake receives when a bucket waits for its first lease.
func (t *Table) Wake() <-chan struct{} { return t.wake }

// Over counts requests that had to share a bucket because there were too many values.
func (t *Table) Over() uint64 { return t.over.Load() }

// Current reports whether Table.Pool would return p again for the same limit.
func (p *Pool) Current() bool { return !p.old.Load() }

func (p *Pool) shared() bool { return p.limit.Nodes > 0 }

func (p *Pool) own() float64 { return p.limit.Rate / float64(max(p.nodes.Load(), 1)) }

// inForce returns the rate of a bucket that has this lease.
func (p *Pool) inForce(now time.Duration, lent float64) float64 {
	own := p.own()
	if !p.shared() || lent < 0 {
		return own
	}
	switch until := time.Duration(p.table.until.Load()); {
	case now < until:
		return lent
	case now < until+TTL:
		return min(lent, own)
	}
	return own
}

// Take counts a request with a value, of a client, at now. It returns the bucket if that lets
// the request in, and nil otherwise. It does not allocate for a value that has a bucket.
func (p *Pool) Take(now time.Duration, client mesh.Identity, v *Value) *Bucket {
	if p.limit.Rate <= 0 {
		return nil
	}
	text := v.bytes()
	p.mu.RLock()
	b := p.buckets[string(text)]
	full := b == nil && p.full(client) && now-p.swept < sweepEvery
	if full {
		b = p.other
	}
	p.mu.RUnlock()
	if b == nil {
		b = p.make(now, client, text)
	} else if full {
		p.table.over.Add(1)
	}
	if !b.take(now) {
		return nil
	}
	return b
}

// make returns the bucket of a value that had none.
func (p *Pool) make(now time.Duration, client mesh.Identity, text []byte) *Bucket {
	t := p.table
	t.mu.Lock() // before that of the pool, as everywhere
	defer t.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.buckets[string(text)]; b != nil {
		return b
	}
	if p.full(client) {
		p.sweep(now)
	}
	if p.full(client) {
		t.over.Add(1)
		if p.other == nil {
			p.other = p.newBucket(now, "", true, client)
		}
		return p.other
	}
	b := p.newBucket(now, string(text), false, client)
	p.buckets[b.value] = b
	p.made[client]++
	return b
}

// full reports whether a client can have no further bucket. A mutex of the pool is held.
func (p *Pool) full(client mesh.Identity) bool {
	return len(p.buckets) >= MostKeys || p.made[client] >= MostOfClient
}

func (p *Pool) newBucket(now time.Duration, value string, other bool, client mesh.Identity) *Bucket {
	t := p.table
	t.next++
	b := &Bucket{pool: p, id: t.next, value: value, other: other, client: client, at: now, lent: -1, used: now}
	b.rate, b.made, b.stepped = p.own(), now, now
	b.credit = b.depth(b.rate)
	if p.shared() && !p.old.Load() {
		t.ids[b.id] = b
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	return b
}

// sweepEvery is the least time between two sweeps of a full pool.
const sweepEvery = 100 * time.Millisecond

// Sweep drops the buckets that are unused. Call it every few seconds.
func (t *Table) Sweep(now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
}

func (t *Table) sweep(now time.Duration) {
	for _, p := range t.pools {
		p.mu.Lock()
		p.sweep(now)
		p.mu.Unlock()
	}
}

// sweep drops buckets that are unused. Both mutexes are held.
func (p *Pool) sweep(now time.Duration) {
	if p.swept != 0 && now-p.swept < sweepEvery {
		return
	}
	p.swept = now
	for b := range p.all() {
		if !b.unused(now) {
			continue
		}
		p.table.forget(b)
		if b.other {
			p.other = nil
			continue
		}
		delete(p.buckets, b.value)
		if p.made[b.client]--; p.made[b.client] <= 0 {
			delete(p.made, b.client)
		}
	}
}

// all yields the buckets. A mutex of the pool is held.
func (p *Pool) all() func(func(*Bucket) bool) {
	return func(yield func(*Bucket) bool) {
		for _, b := range p.buckets {
			if !yield(b) {
				return
			}
		}
		if p.other != nil {
			yield(p.other)
		}
	}
}
