package slots

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"
)

type key struct {
	p    *int
	name string
}

func (k *key) index() int { return Index(unsafe.Pointer(k.p), nil, nil, nil, 0) }

// TestTable: keys that share slots are told apart, and one that is used often gets a slot that
// others have taken.
func TestTable(t *testing.T) {
	var table Table[key, int]
	keys := make([]key, 2000)
	for i := range keys {
		keys[i].p = new(int)
		if i%2 == 1 { // another one with the same pointer
			keys[i] = key{keys[i-1].p, "another"}
		}
	}
	find := func(i int) (found bool) {
		k := &keys[i]
		s := table.Get(k.index(), k)
		if s == nil {
			table.Offer(k.index(), k, i)
			return false
		}
		if s.Key != *k || s.Value != i {
			t.Fatalf("got %v with %d, want %v with %d", s.Key, s.Value, *k, i)
		}
		if !table.Has(k.index(), s) {
			t.Fatal("the table does not have what it returned")
		}
		return true
	}
	for range 20_000 {
		find(rand.IntN(len(keys)))
	}
	found := 0
	for range 100_000 {
		if find(1) {
			found++
		}
	}
	if found < 90_000 {
		t.Errorf("found %d times of 100,000, want 90,000 or more", found)
	}
	s := table.Get(keys[1].index(), &keys[1])
	table.Clear()
	if got := table.Get(keys[1].index(), &keys[1]); got != nil || table.Has(keys[1].index(), s) {
		t.Errorf("got %v after Clear, want none", got)
	}
}

// TestIndex: the slots of keys that lie next to each other in memory are spread.
func TestIndex(t *testing.T) {
	objects := make([][64]byte, 4*Number)
	used := map[int]int{}
	for i := range objects {
		used[Index(nil, unsafe.Pointer(&objects[i]), nil, nil, 1)]++
	}
	for at, n := range used {
		if at < 0 || at >= Number {
			t.Fatalf("got index %d, want it in [0, %d)", at, Number)
		}
		if n > 32 {
			t.Errorf("%d of %d objects have index %d, want at most 32", n, len(objects), at)
		}
	}
	if len(used) < Number/4 {
		t.Errorf("%d indexes are used, want a quarter of %d", len(used), Number)
	}
}

func ExampleTable() {
	var table Table[*int, string]
	k := new(int)
	at := Index(unsafe.Pointer(k), nil, nil, nil, 0)
	fmt.Println(table.Get(at, &k) == nil)
	table.Offer(at, &k, "a value")
	fmt.Println(table.Get(at, &k).Value)
	// Output:
	// true
	// a value
}
