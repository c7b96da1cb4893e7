package figures

import (
	"math/rand/v2"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestRecentSlots: keys that share slots are told apart, and one that is used often gets a slot.
func TestRecentSlots(t *testing.T) {
	r := recent{all: map[fast]target{}}
	keys := make([]fast, 2000)
	for i := range keys {
		keys[i] = fast{source: new(mesh.Workload), direction: mesh.Outbound, tls: "true"}
		if i%2 == 1 { // another one with the same pointers
			keys[i] = keys[i-1]
			keys[i].name = "outside.example.com"
		}
		if i%3 != 0 {
			r.all[keys[i]] = target{edge: &edge{id: i}}
		}
	}
	for range 20_000 {
		i := rand.IntN(len(keys))
		got, ok := r.find(&keys[i])
		if ok != (i%3 != 0) || ok && got.edge.id != i {
			t.Fatalf("key %d: found %v, %v", i, got.edge, ok)
		}
	}
	often, inSlot := &keys[1], 0
	for range 100_000 {
		if _, ok := r.find(often); !ok {
			t.Fatal("not found")
		}
		if r.slots.Get(often.slot(), often) != nil {
			inSlot++
		}
	}
	if inSlot < 90_000 {
		t.Errorf("in a slot %d times of 100,000, want 90,000 or more", inSlot)
	}
}
