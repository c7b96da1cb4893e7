package scale

import (
	"runtime"
	"testing"

	"github.com/underlane/underlane/pkg/controller/translate"
)

// atMost is by how much the cost of a change may grow when the cluster is four times as large.
const atMost = 1.5

// allocates is how many bytes a change may allocate, with the decoding of its deltas by agents: a
// half more than it does. Beside its computation it is most of what a change costs.
var allocates = map[string]float64{"a pod's readiness": 45_000, "an endpoint": 40_000, "a route": 100_000, "a policy": 110_000}

// cost is the work of one change, which does not depend on how busy the machine is.
type cost struct {
	values, resources float64 // computed, encoded
	bytes             float64 // allocated
	agents            float64 // that get something
}

// TestCostFollowsChange: what a change costs does not grow with the cluster.
func TestCostFollowsChange(t *testing.T) {
	const nodes, agents = 40, 20
	small, large := costs(t, nodes, agents), costs(t, 4*nodes, agents)
	for i, c := range changes {
		a, b := small[i], large[i]
		t.Logf("%-20s %+v, at four times the size %+v", c.name, a, b)
		if b.bytes > allocates[c.name] {
			t.Errorf("%s: %.0f bytes are allocated, at most %.0f are expected", c.name, b.bytes, allocates[c.name])
		}
		for what, v := range map[string][2]float64{
			"values that are computed": {a.values, b.values}, "resources that are encoded": {a.resources, b.resources},
			"bytes that are allocated": {a.bytes, b.bytes}, "agents that get something": {a.agents, b.agents},
		} {
			if v[1] > atMost*v[0] {
				t.Errorf("%s: %s: %.0f, and %.0f in a cluster four times as large", c.name, what, v[0], v[1])
			}
		}
	}
}

// costs returns what each of the changes costs, on average of some.
func costs(t *testing.T, nodes, agents int) (out []cost) {
	w := newWorld(t, nodes, agents)
	w.apply(translate.Diff(nil, Cluster(nodes)))
	w.stream()
	for _, c := range changes {
		const times = 16
		w.apply(one(c.of(nodes, true))) // the first time may make an index
		w.stream()
		var before, after runtime.MemStats
		values, resources, got := w.tr.Work(), w.keeper.Encoded(), 0
		runtime.ReadMemStats(&before)
		for i := range times {
			w.apply(one(c.of(nodes, i%2 == 1)))
			_, n := w.stream()
			got += n
		}
		runtime.ReadMemStats(&after)
		out = append(out, cost{
			values: float64(w.tr.Work()-values) / times, resources: float64(w.keeper.Encoded()-resources) / times,
			bytes: float64(after.TotalAlloc-before.TotalAlloc) / times, agents: float64(got) / times,
		})
	}
	if n := w.tr.Misread(); n > 0 {
		t.Errorf("%d values were read too early", n)
	}
	return out
}

// TestOthersAreLeftAlone: an agent that has nothing of what has changed costs no allocation.
func TestOthersAreLeftAlone(t *testing.T) {
	const nodes = 40
	w := newWorld(t, nodes, nodes)
	w.apply(translate.Diff(nil, Cluster(nodes)))
	w.stream()
	flip := false
	for _, c := range changes {
		flip = !flip
		w.apply(one(c.of(nodes, flip)))
		idle := 0
		for _, s := range w.streams {
			before := s.Looks()
			if allocs := testing.AllocsPerRun(1, func() { s.Next(w.snap) }); allocs == 0 && s.Looks() == before {
				idle++
			}
			s.Answered()
		}
		if idle < nodes/2 {
			t.Errorf("%s: only %d of %d agents are left alone", c.name, idle, nodes)
		}
	}
}
