package pmap

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"
)

// TestLikeAMap compares with a map of Go, and looks whether older maps stay as they are.
func TestLikeAMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var m Map[int, int]
		want := map[int]int{}
		type version struct {
			m    Map[int, int]
			want map[int]int
		}
		var old []version
		for range 60 {
			e := m.Edit()
			for range r.IntN(200) {
				k := r.IntN(2000)
				if r.IntN(3) == 0 {
					e.Delete(k)
					delete(want, k)
				} else {
					e.Set(k, r.Int())
					want[k] = e.Get(k)
				}
			}
			m = e.Map()
			if r.IntN(2) == 0 { // the Editor goes on, with a map of its own
				e.Set(-1, 1)
				e.Delete(r.IntN(2000))
			}
			old = append(old, version{m, maps.Clone(want)})
		}
		for i, v := range old {
			if got := maps.Collect(v.m.All()); !maps.Equal(got, v.want) || v.m.Len() != len(v.want) {
				t.Fatalf("seed %d: version %d has %d elements, want %d", seed, i, v.m.Len(), len(v.want))
			}
			for k := range 2000 {
				got, found := v.m.Find(k)
				want, has := v.want[k]
				if got != want || found != has {
					t.Fatalf("seed %d: version %d: %d is %d %v, want %d %v", seed, i, k, got, found, want, has)
				}
			}
		}
	}
}

// TestSameHash: elements whose hash is the same are told apart by their key.
func TestSameHash(t *testing.T) {
	e := (Map[string, int]{}).Edit()
	last := &node[string, int]{owner: e.owner}
	for i, k := range []string{"a", "b", "c", "b"} {
		last = e.set(last, 7, depth, element[string, int]{key: k, value: i})
	}
	if len(last.elements) != 3 || e.m.n != 3 || last.elements[1].value != 3 {
		t.Errorf("%+v", last.elements)
	}
	if last = e.remove(last, 7, depth, "a"); len(last.elements) != 2 || last.elements[0].key != "b" {
		t.Errorf("%+v", last.elements)
	}
}

func TestReadsAllocateNothing(t *testing.T) {
	e := (Map[int, int]{}).Edit()
	for i := range 10_000 {
		e.Set(i, i)
	}
	m := e.Map()
	if n := testing.AllocsPerRun(100, func() {
		for i := range 100 {
			if m.Get(i*131%20_000) > 10_000 {
				t.Fatal()
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestAChangeCopiesLittle: the cost of a change does not follow the size.
func TestAChangeCopiesLittle(t *testing.T) {
	cost := func(n int) uint64 {
		e := (Map[int, int]{}).Edit()
		for i := range n {
			e.Set(i, i)
		}
		m := e.Map()
		const times = 1000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range times {
			e := m.Edit()
			e.Set(i*7%n, -1)
			e.Map()
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / times
	}
	if small, big := cost(1000), cost(64_000); big > 3*small {
		t.Errorf("a change in 1,000 elements copies %d bytes, in 64,000 %d", small, big)
	}
}

func BenchmarkGet(b *testing.B) {
	e := (Map[int, int]{}).Edit()
	for i := range 100_000 {
		e.Set(i, i)
	}
	m := e.Map()
	i := 0
	for b.Loop() {
		i++
		m.Get(i % 100_000)
	}
}
