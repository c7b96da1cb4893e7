package dnsname

import (
	"cmp"
	"container/list"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of how long a name is remembered. An answer is often valid for a few seconds
// only, and a program connects later; it may also be valid for weeks.
const (
	MinTTL = 30 * time.Second
	MaxTTL = time.Hour
)

// Bounds of what is remembered. A pod that resolves more forgets its own oldest names.
const (
	podNames = 256
	podBytes = 32 << 10
	// allBytes are shared by all pods, when these are so many that podBytes for each would
	// be more.
	allBytes = 8 << 20
	// entryBytes estimates what a name takes, besides its own bytes.
	entryBytes = 192
)

// Cache remembers for each pod the names of addresses. A pod's answers change nothing for
// other pods. The zero value is empty, and its methods are safe for concurrent use.
type Cache struct {
	mu   sync.Mutex
	pods map[string]*pod // by UID
}

// pod has the names of one pod, the one that was learnt last in front.
type pod struct {
	names map[netip.Addr]*list.Element // of *entry
	order list.List
	bytes int
}

type entry struct {
	addr    netip.Addr
	name    string
	expires time.Time
}

func (e *entry) size() int { return entryBytes + len(e.name) }

// Learn remembers an answer that a pod got at now. The newest name of an address counts.
func (c *Cache) Learn(uid string, a *Answer, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[uid]
	if p == nil {
		if c.pods == nil {
			c.pods = map[string]*pod{}
		}
		p = &pod{names: map[netip.Addr]*list.Element{}}
		c.pods[uid] = p
	}
	for _, addr := range a.Addrs {
		p.forget(p.names[addr.Addr])
		e := &entry{addr.Addr, a.Name, now.Add(min(max(addr.TTL, MinTTL), MaxTTL))}
		p.names[e.addr] = p.order.PushFront(e)
		p.bytes += e.size()
	}
	for limit := min(podBytes, allBytes/len(c.pods)); len(p.names) > podNames || p.bytes > limit; {
		p.forget(p.order.Back())
	}
}

func (p *pod) forget(at *list.Element) {
	if at == nil {
		return
	}
	e := p.order.Remove(at).(*entry)
	delete(p.names, e.addr)
	p.bytes -= e.size()
}

// Name returns the name by which a pod has resolved an address, "" if it has not, or not
// lately.
func (c *Cache) Name(uid string, addr netip.Addr, now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[uid]
	if p == nil {
		return ""
	}
	at := p.names[addr.Unmap()]
	if at == nil {
		return ""
	}
	e := at.Value.(*entry)
	if !now.Before(e.expires) {
		p.forget(at)
		return ""
	}
	return e.name
}

// Tidy forgets pods that are gone, and names that are not valid any more.
func (c *Cache) Tidy(now time.Time, here func(uid string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid, p := range c.pods {
		for at := p.order.Front(); at != nil; {
			next := at.Next()
			if !now.Before(at.Value.(*entry).expires) {
				p.forget(at)
			}
			at = next
		}
		if len(p.names) == 0 || !here(uid) {
			delete(c.pods, uid)
		}
	}
}

// Known is a name that is remembered.
type Known struct {
	UID     string     `json:"uid"` // of the pod
	Addr    netip.Addr `json:"addr"`
	Name    string     `json:"name"`
	Expires time.Time  `json:"expires"`
}

// List returns all names, sorted by pod and address.
func (c *Cache) List() (all []Known) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid, p := range c.pods {
		for at := p.order.Front(); at != nil; at = at.Next() {
			e := at.Value.(*entry)
			all = append(all, Known{uid, e.addr, e.name, e.expires})
		}
	}
	slices.SortFunc(all, func(a, b Known) int { return cmp.Or(strings.Compare(a.UID, b.UID), a.Addr.Compare(b.Addr)) })
	return all
}

// Len returns how many names are remembered.
func (c *Cache) Len() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pods {
		n += len(p.names)
	}
	return n
}
