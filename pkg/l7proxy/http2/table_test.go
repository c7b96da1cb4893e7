package http2

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTable does what a map does: with identifiers in their order, with long-lived streams
// among short ones, and with those of a peer that wants them all in one place.
func TestTable(t *testing.T) {
	for name, next := range map[string]func(r *rand.Rand, n uint32) uint32{
		"in order":  func(_ *rand.Rand, n uint32) uint32 { return 2*n + 1 },
		"any":       func(r *rand.Rand, _ uint32) uint32 { return 1 + r.Uint32N(1<<31-1) },
		"few":       func(r *rand.Rand, _ uint32) uint32 { return 1 + r.Uint32N(40) },
		"one place": func(_ *rand.Rand, n uint32) uint32 { return 1 + n*2*tableMost },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			want, got := map[uint32]int{}, Table[int]{}
			ids := []uint32{0}
			for n := range 20_000 {
				id := next(r, uint32(n))
				want[id] = n
				got.Put(id, n)
				ids = append(ids, id)
				for range r.IntN(3) { // some that are there, and some that are not any more
					id := ids[r.IntN(len(ids))]
					delete(want, id)
					got.Delete(id)
				}
				if n%3000 == 2999 {
					clear(want)
					got.Clear()
				}
				for range 4 {
					id := ids[r.IntN(len(ids))]
					v, ok := got.Get(id)
					if w, is := want[id]; v != w || ok != is {
						t.Fatalf("step %d: Get(%d) = %d, %v; want %d, %v", n, id, v, ok, w, is)
					}
				}
				if got.Len() != len(want) {
					t.Fatalf("step %d: Len() = %d, want %d", n, got.Len(), len(want))
				}
				if n%500 == 0 {
					if d := cmp.Diff(want, maps.Collect(got.All())); d != "" {
						t.Fatalf("step %d: -want +got:\n%s", n, d)
					}
				}
			}
			if len(got.places) > tableMost {
				t.Errorf("%d places, want at most %d", len(got.places), tableMost)
			}
		})
	}
}

// BenchmarkTable is a stream's life: 32 are open at once, and each is looked up six times.
func BenchmarkTable(b *testing.B) {
	b.Run("table", func(b *testing.B) {
		var t Table[*int]
		benchmarkTable(b, t.Put, t.Delete, func(id uint32) *int { v, _ := t.Get(id); return v })
	})
	b.Run("map", func(b *testing.B) {
		m := map[uint32]*int{}
		benchmarkTable(b, func(id uint32, v *int) { m[id] = v }, func(id uint32) { delete(m, id) }, func(id uint32) *int { return m[id] })
	})
}

func benchmarkTable(b *testing.B, put func(uint32, *int), del func(uint32), get func(uint32) *int) {
	v := new(int)
	for id := uint32(1); b.Loop(); id += 2 {
		put(id, v)
		for range 6 {
			if get(id) != v {
				b.Fatal("it is not there")
			}
		}
		if id > 64 {
			del(id - 64)
		}
	}
}
