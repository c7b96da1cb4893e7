package schedule

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var options = Options{Nodes: []string{"node-1", "node-2"}, Pods: []string{"near", "far"}}

// A seed that found something must still find it tomorrow.
func ExampleNew() {
	for _, f := range New(1, 4, options) {
		fmt.Printf("after %s: %s\n", f.After, f)
	}
	// Output:
	// after 865ms: pod-unlabelled near for 3.182s
	// after 1.762s: node-cut node-2 for 603ms
	// after 1.312s: maps-full node-2 for 829ms
	// after 1.055s: agent-starved node-1 for 3.425s
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
