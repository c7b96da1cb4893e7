package depend

import (
	"math/rand/v2"
	"testing"
)

// sum is a value modulo ten of the values of others.
type sum struct {
	Node
	g     *Graph
	of    []*sum
	value int
}

func (s *sum) Compute() bool {
	v := 0
	for _, other := range s.of {
		s.g.Read(&other.Node)
		v += other.value
	}
	v %= 3
	changed := v != s.value
	s.value = v
	return changed
}

// TestValuesAreThoseOfTheWhole changes inputs, and whom values depend on, at random.
func TestValuesAreThoseOfTheWhole(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		g := &Graph{}
		var levels [4][]*sum
		for level := range levels {
			for range 20 {
				s := &sum{g: g, value: r.IntN(3)}
				if level > 0 {
					s.Node, s.value = NewNode(level, s), -1
					s.of = some(r, levels[level-1])
					g.Mark(&s.Node)
				}
				levels[level] = append(levels[level], s)
			}
		}
		for range 100 {
			g.Settle()
			for level := 1; level < len(levels); level++ {
				for _, s := range levels[level] {
					want := 0
					for _, other := range s.of {
						want += other.value
					}
					if s.value != want%3 {
						t.Fatalf("seed %d: %d, want %d", seed, s.value, want%3)
					}
				}
			}
			in := levels[0][r.IntN(20)]
			in.value = r.IntN(3)
			g.Touch(&in.Node)
			level := 1 + r.IntN(3)
			s := levels[level][r.IntN(20)]
			s.of = some(r, levels[level-1])
			g.Mark(&s.Node)
		}
		if g.Misread() != 0 {
			t.Errorf("seed %d: %d reads break the rule of levels", seed, g.Misread())
		}
	}
}

func some(r *rand.Rand, of []*sum) (out []*sum) {
	for range r.IntN(18) {
		out = append(out, of[r.IntN(len(of))])
	}
	return out
}

// TestWhatStaysTheSameStopsAChange: the users of a value that was computed and stays the same
// are not computed.
func TestWhatStaysTheSameStopsAChange(t *testing.T) {
	g := &Graph{}
	in := &sum{g: g, value: 1}
	a := &sum{g: g, of: []*sum{in}, value: -1}
	a.Node = NewNode(1, a)
	b := &sum{g: g, of: []*sum{a}, value: -1}
	b.Node = NewNode(2, b)
	g.Mark(&a.Node)
	g.Mark(&b.Node)
	g.Settle()
	before := g.Computed()
	in.value += 3
	g.Touch(&in.Node)
	g.Settle()
	if n := g.Computed() - before; n != 1 {
		t.Errorf("%d values were computed, want 1", n)
	}
	g.Read(&in.Node) // outside of a computation: nothing
	if b.Used() || !a.Used() {
		t.Error("users of a and b")
	}
}

func TestMisreadIsCounted(t *testing.T) {
	g := &Graph{}
	a := &sum{g: g}
	a.Node = NewNode(1, a)
	b := &sum{g: g, of: []*sum{a}}
	b.Node = NewNode(1, b)
	g.Mark(&b.Node)
	g.Settle()
	if g.Misread() != 1 {
		t.Errorf("%d", g.Misread())
	}
}
