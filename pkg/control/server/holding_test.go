package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestHolding: whatever is added and removed, few or many at once, a holding is what a map would
// be, its names keep their numbers, and at its end no name has one.
func TestHolding(t *testing.T) {
	dice := rand.New(rand.NewPCG(5, 6))
	n := newNumbers()
	for range 20 {
		s := &syncState{numbers: n}
		other := &syncState{numbers: n} // has some of the same names, as another stream
		want := map[string]version{}
		for range 200 {
			var some []*resource
			var names []string
			for range dice.IntN(12) {
				name := fmt.Sprint("service/ns/", dice.IntN(100))
				if dice.IntN(3) == 0 {
					names = append(names, name)
				} else if !slices.ContainsFunc(some, func(r *resource) bool { return r.Name == name }) {
					some = append(some, &resource{Name: name, version: version{byte(dice.IntN(3))}})
				}
			}
			s.gets(some)
			for _, r := range some {
				want[r.Name] = r.version
			}
			other.gets(some)
			slices.Sort(names)
			names = slices.Compact(names)
			s.loses(names)
			for _, name := range names {
				delete(want, name)
			}
			got := map[string]version{}
			for _, r := range s.sent {
				got[n.name(r.id)] = r.version
			}
			if !maps.Equal(got, want) || len(got) != len(s.sent) || !slices.IsSortedFunc(s.sent, func(a, b held) int { return byID(a, b.id) }) {
				t.Fatalf("it has %v, want %v", s.sent, want)
			}
			for name := range want {
				if v, has := s.version(name); !has || v != want[name] {
					t.Fatalf("%s: %v, %v, want %v", name, v, has, want[name])
				}
			}
		}
		s.drop()
		other.drop()
		if len(n.of) > 0 || len(n.free) != len(n.all) {
			t.Fatalf("%d names have numbers that nobody uses, and of %d numbers %d are free", len(n.of), len(n.all), len(n.free))
		}
	}
}

// TestVersionOf: what an agent says about its resources after a new start of the controller is
// compared with what they are.
func TestVersionOf(t *testing.T) {
	r := newResource(newAddress(podA, false).later) // its version is not a hash
	if v := versionOf("1"); v != r.version || v == versionOf("2") {
		t.Errorf("%v, want %v", v, r.version)
	}
	sum := version{1, 2, 255}
	if v := versionOf(versionText.EncodeToString(sum[:])); v != sum {
		t.Errorf("%v, want %v", v, sum)
	}
	if a, b := versionOf("AAAAAAAAAAAAAAA="), versionOf("AAAAAAAAAAAAAAAA"); a == b || b != (version{}) {
		t.Errorf("%v and %v are one", a, b)
	}
}
