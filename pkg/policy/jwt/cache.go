package jwt

import (
	"container/list"
	"sync"
)

// Cache remembers verdicts, for all workloads of a node. Its bounds are on entries and on
// bytes, and over them the client with the most of them loses its oldest one: a client that
// floods the cache takes no more than others leave. It is safe for concurrent use.
type Cache[C comparable] struct {
	maxEntries, maxBytes int

	mu      sync.Mutex
	entries map[cacheKey]*list.Element
	clients map[C]*share[C]
	bytes   int
}

// share has the entries of a client, the one that was used last in front.
type share[C comparable] struct {
	list  list.List // of *entry[C]
	bytes int
}

type entry[C comparable] struct {
	key     cacheKey
	verdict *verdict
	client  C
}

// maxClients bounds the clients that are told apart. The others share what the zero client
// has.
const maxClients = 256

// NewCache returns an empty Cache.
func NewCache[C comparable](maxEntries, maxBytes int) *Cache[C] {
	return &Cache[C]{
		maxEntries: maxEntries, maxBytes: maxBytes,
		entries: map[cacheKey]*list.Element{}, clients: map[C]*share[C]{},
	}
}

// Len returns the number of entries, and the bytes that they take, about.
func (c *Cache[C]) Len() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries), c.bytes
}

func (c *Cache[C]) get(k cacheKey) *verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[k]
	if e == nil {
		return nil
	}
	at := e.Value.(*entry[C])
	c.clients[at.client].list.MoveToFront(e)
	return at.verdict
}

func (c *Cache[C]) put(k cacheKey, v *verdict, client C) {
	if v.size > c.maxBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[k] != nil {
		return // another goroutine was faster
	}
	s := c.clients[client]
	if s == nil {
		if len(c.clients) >= maxClients {
			client = *new(C)
		}
		if s = c.clients[client]; s == nil {
			s = new(share[C])
			c.clients[client] = s
		}
	}
	c.entries[k] = s.list.PushFront(&entry[C]{k, v, client})
	s.bytes += v.size
	c.bytes += v.size
	for len(c.entries) > c.maxEntries || c.bytes > c.maxBytes {
		c.evict()
	}
}

// evict drops the oldest entry of the client with the largest share.
func (c *Cache[C]) evict() {
	var largest *share[C]
	var of C
	most := -1.0
	for client, s := range c.clients {
		part := max(float64(s.list.Len())/float64(c.maxEntries), float64(s.bytes)/float64(c.maxBytes))
		if part > most {
			most, largest, of = part, s, client
		}
	}
	e := largest.list.Remove(largest.list.Back()).(*entry[C])
	delete(c.entries, e.key)
	largest.bytes -= e.verdict.size
	c.bytes -= e.verdict.size
	if largest.list.Len() == 0 {
		delete(c.clients, of)
	}
}

// cacher is the part of a Cache for one client.
type cacher interface {
	get(cacheKey) *verdict
	put(cacheKey, *verdict)
}

type clientCache[C comparable] struct {
	*Cache[C]
	client C
}

func (c clientCache[C]) put(k cacheKey, v *verdict) { c.Cache.put(k, v, c.client) }
