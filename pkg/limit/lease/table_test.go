package lease

import (
	"fmt"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

func client(name string) mesh.Identity {
	return mesh.Identity{TrustDomain: "td", Namespace: "ns", ServiceAccount: name}
}

func value(parts ...string) *Value {
	v := &Value{}
	for _, p := range parts {
		if p == "" {
			v.AddNone()
		} else {
			v.Add(p)
		}
	}
	return v
}

// count makes n requests at now, and returns how many are let in.
func count(p *Pool, now time.Duration, n int, v *Value) (got int) {
	for range n {
		if p.Take(now, mesh.Identity{}, v) != nil {
			got++
		}
	}
	return got
}

// TestValues: each value has a bucket of its own.
func TestValues(t *testing.T) {
	p := NewTable().Pool(Limit{Name: "l", Rate: 1, Burst: 2})
	long := string(make([]byte, 1000))
	all := []*Value{
		value(), value(""), value("a"), value("b"), value("a", "b"), value("ab"), value("a", ""), value("", "a"),
		value(long), value(long + "x"),
	}
	for i, v := range all {
		if got := count(p, time.Hour, 5, v); got != 2 {
			t.Errorf("value %d: %d of 5 are let in, want its own burst of 2", i, got)
		}
	}
	for i, want := range map[int]string{1: "(none)", 2: "a", 4: "a, b", 8: "(long)"} {
		if got := readable(string(all[i].bytes())); got != want {
			t.Errorf("value %d: shown as %q, want %q", i, got, want)
		}
	}
}

// TestRate: without leases a limit is a token bucket.
func TestRate(t *testing.T) {
	table := NewTable()
	p := table.Pool(Limit{Name: "l", Rate: 10, Burst: 5})
	now := time.Hour
	if got := count(p, now, 20, value("a")); got != 5 {
		t.Errorf("at once: %d, want the burst of 5", got)
	}
	if got := count(p, now+time.Second/5, 20, value("a")); got != 2 {
		t.Errorf("after 0.2 s: %d, want 2", got)
	}
	if got := count(p, now+time.Minute, 20, value("a")); got != 5 {
		t.Errorf("after a minute: %d, want 5", got)
	}
	p.Take(now+2*time.Minute, mesh.Identity{}, value("a")).GiveBack()
	if got := count(p, now+2*time.Minute, 20, value("a")); got != 5 {
		t.Errorf("after one was given back: %d, want 5", got)
	}
	if got := count(table.Pool(Limit{Name: "none"}), now, 20, value("a")); got != 0 {
		t.Errorf("a limit that is not understood: %d, want 0", got)
	}
	if q := table.Pool(Limit{Name: "l", Rate: 10, Burst: 5}); q != p || !p.Current() {
		t.Error("the same limit has other buckets")
	}
	if q := table.Pool(Limit{Name: "l", Rate: 11, Burst: 5}); q == p || p.Current() {
		t.Error("a limit that has changed has the same buckets")
	}
	table.Keep(func(string) bool { return false })
	if len(table.pools) != 0 {
		t.Error("limits that are not in force are kept")
	}
}

// TestBounds: a client that invents values takes its own part of the buckets, and unused ones
// make room.
func TestBounds(t *testing.T) {
	table := NewTable()
	p := table.Pool(Limit{Name: "l", Rate: 1, Burst: 1, Nodes: 2})
	now := time.Hour
	for i := range 3 * MostKeys {
		p.Take(now, client("hostile"), value(fmt.Sprint(i)))
	}
	if got := len(p.buckets); got != MostOfClient {
		t.Errorf("one client has %d buckets, want %d", got, MostOfClient)
	}
	if got, want := table.Over(), uint64(3*MostKeys-MostOfClient); got != want {
		t.Errorf("%d requests are counted as over, want %d", got, want)
	}
	if p.Take(now, client("web"), value("alice")) == nil {
		t.Error("another client is refused")
	}
	for i := range 10 * MostKeys {
		p.Take(now, client(fmt.Sprint(i%20)), value(fmt.Sprint("v", i)))
	}
	if got := len(p.buckets); got != MostKeys {
		t.Errorf("%d buckets, want %d", got, MostKeys)
	}
	table.Sweep(now + time.Hour)
	if len(p.buckets) != 0 || p.other != nil || len(p.made) != 0 || len(table.ids) != 0 {
		t.Errorf("after an hour %d buckets are left, %d with IDs", len(p.buckets), len(table.ids))
	}
}

// TestSlowLimitIsKept: a bucket that is used up is not forgotten before it is full again.
func TestSlowLimitIsKept(t *testing.T) {
	table := NewTable()
	p := table.Pool(Limit{Name: "l", Rate: 2.0 / 3600, Burst: 2})
	now := time.Hour
	count(p, now, 2, value("a"))
	table.Sweep(now + 20*time.Minute)
	if got := count(p, now+20*time.Minute, 5, value("a")); got != 0 {
		t.Errorf("after 20 minutes: %d, want 0 of 2 an hour", got)
	}
}

// TestLedgerRefuses: reports that make no sense end the stream, and demands for limits of
// other nodes have no effect.
func TestLedgerRefuses(t *testing.T) {
	l := NewLedger(0)
	l.Set(map[string]Shared{"l": {Rate: 10, Of: 1, Nodes: map[string]struct{}{"a": {}}}})
	now := TTL
	s := l.Connect(now, "b")
	if err := s.Report(now, Report{Seq: 1, Demands: []Demand{{ID: 1, Limit: "l", Rate: 5}, {ID: 2, Limit: "none", Rate: 5}, {ID: 3, Rate: 5}}}); err != nil {
		t.Fatal(err)
	}
	l.Settle(now)
	if m, ok := s.Leases(now); !ok || len(m.Grants) != 0 || m.Seq != 1 {
		t.Errorf("got %+v, want an answer without grants", m)
	}
	l.Set(map[string]Shared{"l": {Rate: 10, Of: 2, Nodes: map[string]struct{}{"a": {}, "b": {}}}})
	l.Settle(now)
	if m, ok := s.Leases(now); !ok || len(m.Grants) != 1 || m.Grants[0].ID != 1 {
		t.Errorf("when the node has the limit: got %+v, want a grant", m)
	}
	for _, r := range []Report{{Seq: 1}, {Seq: 2, Applied: 9}, {Seq: 2, Demands: []Demand{{ID: 1, Rate: -1}}}} {
		if err := s.Report(now, r); err == nil {
			t.Errorf("%+v: no error", r)
		}
	}
	l.Connect(now, "b")
	if err := s.Report(now, Report{Seq: 5}); err == nil {
		t.Error("a stream that was replaced goes on")
	}
}

func TestTakeAllocatesNothing(t *testing.T) {
	p := NewTable().Pool(Limit{Name: "l", Rate: 1000, Burst: 1000, Nodes: 3})
	v, id, now := &Value{}, client("web"), time.Hour
	take := func() {
		now += time.Millisecond
		v.Reset()
		v.Add("alice")
		v.AddNone()
		p.Take(now, id, v)
	}
	take()
	if n := testing.AllocsPerRun(1000, take); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkTake(b *testing.B) {
	p := NewTable().Pool(Limit{Name: "l", Rate: 1e9, Burst: 1e9, Nodes: 3})
	id := client("web")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		v, now := &Value{}, time.Hour
		for pb.Next() {
			now += time.Microsecond
			v.Reset()
			v.Add("alice")
			p.Take(now, id, v)
		}
	})
}

// TestLedgerIsBounded: a node that asks for too many shares has its part of the others.
func TestLedgerIsBounded(t *testing.T) {
	l := NewLedger(0)
	l.Set(map[string]Shared{"l": {Rate: 10, Of: 2, Nodes: map[string]struct{}{"a": {}, "b": {}}}})
	now := TTL
	a, b := l.Connect(now, "a"), l.Connect(now, "b")
	var r Report
	for i := range MostHolds + 1 {
		r.Demands = append(r.Demands, Demand{ID: uint64(i + 1), Limit: "l", Key: Key{byte(i), byte(i >> 8), byte(i >> 16)}, Rate: 100})
	}
	last := r.Demands[MostHolds:]
	for i, step := range []struct {
		s *Session
		r []Demand
	}{{b, last}, {a, r.Demands}} {
		if err := step.s.Report(now, Report{Seq: uint64(i + 1), Demands: step.r}); err != nil {
			t.Fatal(err)
		}
	}
	l.Settle(now)
	if m, ok := a.Leases(now); !ok || len(m.Grants) != MostHolds || l.held != MostHolds+1 {
		t.Errorf("%d grants, %d shares, want %d grants", len(m.Grants), l.held, MostHolds)
	}
	if m, ok := b.Leases(now); !ok || len(m.Grants) != 1 || m.Grants[0].Rate > 5 {
		t.Errorf("the other node: got %+v, want half of the rate", m.Grants)
	}
	l.Set(nil)
	if l.held != 0 || len(a.holds) != 0 {
		t.Errorf("%d shares of a limit that is gone", l.held)
	}
}
