package dnsname

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var (
	addr  = netip.MustParseAddr("203.0.113.7")
	start = time.Unix(1_800_000_000, 0)
)

func answer(name string, ttl time.Duration, addrs ...netip.Addr) *Answer {
	a := &Answer{Name: name}
	for _, at := range addrs {
		a.Addrs = append(a.Addrs, Addr{at, ttl})
	}
	return a
}

func TestCacheTTL(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{
		0: MinTTL, time.Second: MinTTL, time.Minute: time.Minute, 24 * time.Hour: MaxTTL, 1 << 32 * time.Second: MaxTTL,
	} {
		var c Cache
		c.Learn("a", answer("db.example.com", ttl, addr), start)
		if got := c.Name("a", addr, start.Add(want-1)); got != "db.example.com" {
			t.Errorf("TTL %v: %q after %v", ttl, got, want-1)
		}
		if got := c.Name("a", addr, start.Add(want)); got != "" {
			t.Errorf("TTL %v: %q after %v", ttl, got, want)
		}
		if c.Len() != 0 {
			t.Errorf("TTL %v: it is kept", ttl)
		}
	}
}

func TestCachePodsAreApart(t *testing.T) {
	var c Cache
	c.Learn("a", answer("db.example.com", time.Minute, addr), start)
	c.Learn("b", answer("forged.example.com", time.Minute, addr), start)
	for uid, want := range map[string]string{"a": "db.example.com", "b": "forged.example.com", "c": ""} {
		if got := c.Name(uid, netip.AddrFrom16(addr.As16()), start); got != want {
			t.Errorf("pod %s: %q, want %q", uid, got, want)
		}
	}
	c.Learn("a", answer("new.example.com", time.Minute, addr), start)
	if got := c.Name("a", addr, start); got != "new.example.com" || c.Len() != 2 {
		t.Errorf("the newest name: %q, of %d", got, c.Len())
	}
	c.Tidy(start, func(uid string) bool { return uid == "b" })
	if list := c.List(); len(list) != 1 || list[0].UID != "b" || list[0].Name != "forged.example.com" {
		t.Errorf("after one has gone: %+v", list)
	}
	c.Tidy(start.Add(time.Minute), func(string) bool { return true })
	if c.Len() != 0 {
		t.Errorf("names that have expired are kept: %+v", c.List())
	}
}

// TestCacheBounds: a pod that resolves much forgets its own oldest names.
func TestCacheBounds(t *testing.T) {
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for name, tc := range map[string]struct{ label, most int }{
		"many":       {5, podBytes / (entryBytes + 5 + 12)},
		"long names": {200, podBytes / (entryBytes + 200 + 12)},
	} {
		var c Cache
		c.Learn("quiet", answer("db.example.com", time.Minute, addr), start)
		for i := range 1000 {
			n := strings.Repeat("x", tc.label-5) + fmt.Sprintf("%05d", i) + ".example.com"
			c.Learn("loud", answer(n, time.Hour, at(i)), start)
		}
		if got, want := c.Len()-1, min(tc.most, podNames); got != want {
			t.Errorf("%s: %d names are kept, want %d", name, got, want)
		}
		if c.Name("loud", at(999), start) == "" || c.Name("loud", at(0), start) != "" {
			t.Errorf("%s: not the oldest one was forgotten", name)
		}
		if c.Name("quiet", addr, start) == "" {
			t.Errorf("%s: another pod has lost its name", name)
		}
	}
	var c Cache
	for pod := range 4096 {
		for i := range 40 {
			c.Learn(fmt.Sprint(pod), answer(fmt.Sprintf("host-%d.example.com", i), time.Hour, at(i)), start)
		}
	}
	bytes := 0
	for _, p := range c.pods {
		bytes += p.bytes
		if len(p.names) < 5 {
			t.Fatalf("a pod has %d names", len(p.names))
		}
	}
	if bytes > 4*allBytes {
		t.Errorf("all pods have %d bytes, want %d at most", bytes, 4*allBytes)
	}
}
