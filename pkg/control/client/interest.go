package client

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/control"
)

// interest is the set of addresses that a Client subscribes to, with the time of
// their last use. Changes are collected until the session takes them. If an address
// changes several times, only the last change counts.
type interest struct {
	idleAfter time.Duration
	limit     int
	wake      chan struct{} // receives when there are changes to take

	mu      sync.RWMutex
	used    map[netip.Addr]*atomic.Int64 // last use, Unix nanoseconds
	changes map[netip.Addr]bool          // true: subscribe, false: unsubscribe
}

func newInterest(idleAfter time.Duration) *interest {
	return &interest{
		idleAfter: idleAfter,
		limit:     control.MaxSubscriptions / 2,
		wake:      make(chan struct{}, 1),
		used:      map[netip.Addr]*atomic.Int64{},
		changes:   map[netip.Addr]bool{},
	}
}

func (i *interest) len() int {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return len(i.used)
}

func (i *interest) touch(addr netip.Addr) bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	used, ok := i.used[addr]
	if ok {
		used.Store(time.Now().UnixNano())
	}
	return ok
}

func (i *interest) add(addr netip.Addr) {
	if !inCluster(addr) || i.touch(addr) {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.used[addr] != nil {
		return
	}
	if len(i.used) >= i.limit {
		i.evict(i.limit / 10)
	}
	used := &atomic.Int64{}
	used.Store(time.Now().UnixNano())
	i.used[addr] = used
	i.change(addr, true)
}

// sweep removes the addresses that were not used for idleAfter.
func (i *interest) sweep() {
	i.mu.Lock()
	defer i.mu.Unlock()
	limit := time.Now().Add(-i.idleAfter).UnixNano()
	for addr, used := range i.used {
		if used.Load() < limit {
			i.drop(addr)
		}
	}
}

// evict removes the n addresses whose last use is the oldest. Without this limit a
// pod that scans the network would make its node and the controller grow without
// bound.
func (i *interest) evict(n int) {
	addrs := i.byUse()
	for _, addr := range addrs[:min(max(n, 1), len(addrs))] {
		i.drop(addr)
	}
}

// latest returns the n addresses that were used last, or all if there are fewer.
func (i *interest) latest(n int) []netip.Addr {
	i.mu.RLock()
	defer i.mu.RUnlock()
	addrs := i.byUse()
	return addrs[max(len(addrs)-n, 0):]
}

// byUse returns all addresses in the order of their last use, the latest last. The
// caller holds mu.
func (i *interest) byUse() []netip.Addr {
	type use struct {
		addr netip.Addr
		last int64
	}
	uses := make([]use, 0, len(i.used))
	for addr, used := range i.used {
		uses = append(uses, use{addr, used.Load()})
	}
	slices.SortFunc(uses, func(a, b use) int { return cmp.Compare(a.last, b.last) })
	addrs := make([]netip.Addr, len(uses))
	for n, u := range uses {
		addrs[n] = u.addr
	}
	return addrs
}

func (i *interest) drop(addr netip.Addr) {
	delete(i.used, addr)
	i.change(addr, false)
}

func (i *interest) change(addr netip.Addr, subscribe bool) {
	i.changes[addr] = subscribe
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// all returns every address, for a new stream. It clears the collected changes,
// because the result includes them.
func (i *interest) all() []netip.Addr {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.changes)
	addrs := make([]netip.Addr, 0, len(i.used))
	for addr := range i.used {
		addrs = append(addrs, addr)
	}
	return addrs
}

// take returns the changes since the last call of take or all.
func (i *interest) take() (subscribe, unsubscribe []netip.Addr) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for addr, on := range i.changes {
		if on {
			subscribe = append(subscribe, addr)
		} else {
			unsubscribe = append(unsubscribe, addr)
		}
	}
	clear(i.changes)
	return subscribe, unsubscribe
}
