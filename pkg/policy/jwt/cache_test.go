package jwt

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func keyNumber(n int) (k cacheKey) {
	copy(k[:], fmt.Sprint(n))
	return k
}

// TestFlood: what one client puts into the cache takes nothing from another one that has
// less.
func TestFlood(t *testing.T) {
	c := NewCache[string](100, 1<<20)
	for i := range 30 {
		c.put(keyNumber(i), &verdict{size: 100}, "quiet")
	}
	for i := range 100_000 {
		c.put(keyNumber(1000+i), &verdict{size: 100}, "flood")
	}
	for i := range 30 {
		if c.get(keyNumber(i)) == nil {
			t.Fatalf("entry %d of the quiet client is gone", i)
		}
	}
	if n, bytes := c.Len(); n != 100 || bytes != 100*100 {
		t.Errorf("%d entries of %d bytes, want 100 of 10000", n, bytes)
	}
	// By bytes, too.
	for i := range 1000 {
		c.put(keyNumber(i), &verdict{size: 100_000}, "large")
	}
	if n, bytes := c.Len(); bytes > 1<<20 {
		t.Errorf("%d entries of %d bytes", n, bytes)
	}
	if c.get(keyNumber(0)) == nil {
		t.Error("an entry of the quiet client is gone")
	}
	c.put(keyNumber(1), &verdict{size: 2 << 20}, "huge")
	for i := range 1000 * maxClients {
		c.put(keyNumber(1<<30+i), &verdict{size: 100}, fmt.Sprint("client", i))
	}
	if len(c.clients) > maxClients+1 {
		t.Errorf("%d clients are told apart, want at most %d", len(c.clients), maxClients+1)
	}
}

// TestCacheUse: the entry that was used last stays longest, and goroutines may share a cache.
func TestCacheUse(t *testing.T) {
	c := NewCache[string](3, 1<<20)
	for i := range 3 {
		c.put(keyNumber(i), &verdict{size: 1}, "a")
	}
	c.get(keyNumber(0))
	c.put(keyNumber(3), &verdict{size: 1}, "a")
	if c.get(keyNumber(0)) == nil || c.get(keyNumber(1)) != nil {
		t.Error("the entry that was used last is gone, or the oldest one is there")
	}
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 1000 {
				c.put(keyNumber(i), &verdict{size: 1}, strings.Repeat("x", g%3))
				c.get(keyNumber(i / 2))
			}
		})
	}
	all.Wait()
	if n, bytes := c.Len(); n != 3 || bytes != 3 {
		t.Errorf("%d entries of %d bytes, want 3", n, bytes)
	}
}
