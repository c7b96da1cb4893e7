package schedule

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var options = Options{Nodes: []string{"node-1", "node-2"}, Pods: []string{"near", "far"}, Spare: "node-3"}

// A seed that found something must still find it tomorrow.
func ExampleNew() {
	for _, f := range New(1, 4, options) {
		fmt.Printf("after %s: %s\n", f.After, f)
	}
	// Output:
	// after 1.685s: agent-clock node-1 by 2s for 1.959s
	// after 1.312s: agent-stopped node-2 for 829ms
	// after 1.055s: controller-slowed controller for 3.425s
	// after 1.109s: handshake-storm near for 1.022s
}

func TestASeedIsASchedule(t *testing.T) {
	for seed := range uint64(50) {
		long := New(seed, 40, options)
		if diff := cmp.Diff(long[:7], New(seed, 7, options)); diff != "" {
			t.Errorf("seed %d: the first of 40 and the first 7 (-40 +7):\n%s", seed, diff)
		}
		if cmp.Equal(long, New(seed+1, 40, options)) {
			t.Errorf("seeds %d and %d are the same schedule, want two", seed, seed+1)
		}
		seen := map[Kind]int{}
		for _, f := range long[:len(Kinds)] {
			seen[f.Kind]++
		}
		if len(seen) != len(Kinds) {
			t.Errorf("seed %d: got %v in the first %d faults, want each kind once", seed, seen, len(Kinds))
		}
		for _, f := range long {
			if f.With {
				t.Errorf("seed %d: got %+v, want one after the other", seed, f)
			}
			if f.Kind.OfNode() != (f.Node != "") || f.Kind.OfPod() != (f.Pod != "") {
				t.Errorf("seed %d: got %+v, want a node and a pod where the kind has one", seed, f)
			}
			if f.After < minAfter || f.After > maxAfter || f.For < minFor || f.For > maxFor {
				t.Errorf("seed %d: got %+v, want times in their bounds", seed, f)
			}
			if f.Kind.OfClock() != (f.Step != 0) || f.Step.Abs() > maxStep {
				t.Errorf("seed %d: got %+v, want a step of %s at most where a clock is stepped", seed, f, maxStep)
			}
		}
	}
}

func TestOnlyTheKindsThatAreWanted(t *testing.T) {
	for _, f := range New(1, 20, Options{Kinds: []Kind{AgentKilled, PodReplaced}, Nodes: []string{"node-1"}}) {
		if f.Kind != AgentKilled {
			t.Errorf("got %s, want %s alone: there is no pod for others", f, AgentKilled)
		}
	}
	if got := New(1, 20, Options{Kinds: []Kind{PodReplaced}}); got != nil {
		t.Errorf("got %v, want none", got)
	}
}

// Faults that overlap are those that can, and each strikes and is healed while all that it
// needs is there. Every kind occurs, and overlaps others.
func TestOverlap(t *testing.T) {
	for _, overlap := range []int{2, 3} {
		o := options
		o.Overlap = overlap
		pairs := map[[2]Kind]bool{}
		seen := map[Kind]int{}
		for seed := range uint64(200) {
			all := New(seed, 12*overlap, o)
			if diff := cmp.Diff(all, New(seed, 12*overlap, o)); diff != "" {
				t.Errorf("seed %d is two schedules:\n%s", seed, diff)
			}
			if len(all) != 12*overlap {
				t.Errorf("seed %d: got %d faults, want %d", seed, len(all), 12*overlap)
			}
			var group []Fault
			for _, f := range all {
				seen[f.Kind]++
				if !f.With {
					group = nil
				}
				for _, other := range group {
					pairs[[2]Kind{other.Kind, f.Kind}] = true
					if excludes(f, other) || excludes(other, f) {
						t.Errorf("seed %d: got %s during %s", seed, f, other)
					}
					if other.Kind.depth() > f.Kind.depth() {
						t.Errorf("seed %d: got %s before %s, want it after", seed, other, f)
					}
				}
				if group = append(group, f); len(group) > overlap {
					t.Errorf("seed %d: got %d faults at once, want %d at most", seed, len(group), overlap)
				}
			}
		}
		for _, k := range Kinds {
			if seen[k] == 0 {
				t.Errorf("overlap %d: got no %s in any seed", overlap, k)
			}
		}
		if len(pairs) < 100 {
			t.Errorf("overlap %d: got %d pairs of kinds, want 100 at least", overlap, len(pairs))
		}
	}
}

// Faults overlap unless they strike the same process or pod, or one cannot strike or be
// healed during the other.
func TestFaultsThatExcludeEachOther(t *testing.T) {
	at := func(k Kind, node, pod string) Fault { return Fault{Kind: k, Node: node, Pod: pod} }
	for _, c := range []struct {
		a, b Fault
		want bool
	}{
		{at(AgentKilled, "node-1", ""), at(AgentStopped, "node-1", ""), true},
		{at(AgentKilled, "node-1", ""), at(AgentStopped, "node-2", ""), false},
		{at(AgentUpgraded, "node-1", ""), at(NodeCut, "node-1", ""), true},
		{at(AgentUpgraded, "node-1", ""), at(NodeCut, "node-2", ""), false},
		{at(ControllerKilled, "", ""), at(ControllerClock, "", ""), true},
		{at(ControllerKilled, "", ""), at(AgentClock, "node-1", ""), false},
		{at(PodReplaced, "", "near"), at(PodUnlabelled, "", "near"), true},
		{at(PodReplaced, "", "near"), at(PodUnlabelled, "", "far"), false},
		{at(PodReplaced, "", "near"), at(ControllerKilled, "", ""), false},
		{at(MapsFull, "node-1", ""), at(AgentKilled, "node-1", ""), true},
	} {
		for _, got := range []bool{excludes(c.a, c.b), excludes(c.b, c.a)} {
			if got != c.want {
				t.Errorf("%s and %s: got %v, want %v", c.a, c.b, got, c.want)
			}
		}
	}
}
