package contract

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/contract/check"
	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/contract/inject"
	"github.com/underlane/underlane/test/contract/schedule"
)

// fixed are the schedules that are played always.
var fixed = []struct {
	seed    uint64
	faults  int
	overlap int
	kinds   []schedule.Kind
}{
	{1, 5, 1, []schedule.Kind{schedule.AgentKilled, schedule.AgentStopped, schedule.AgentTerminated, schedule.AgentUpgraded, schedule.PodReplaced}},
	{4, 5, 1, []schedule.Kind{schedule.ControllerKilled, schedule.NodeCut, schedule.PodUnlabelled, schedule.RootRotated, schedule.HandshakeStorm}},
	{9, 5, 1, []schedule.Kind{schedule.AgentStarved, schedule.AgentClock, schedule.ControllerClock, schedule.ControllerSlowed, schedule.MapsFull}},
	{1, 1, 1, []schedule.Kind{schedule.NodeLost}},
	{2, 6, 2, []schedule.Kind{schedule.AgentKilled, schedule.AgentStopped, schedule.ControllerKilled, schedule.NodeCut, schedule.PodReplaced, schedule.HandshakeStorm}},
}

// TestFullContract plays schedules, and wants none to violate an invariant.
func TestFullContract(t *testing.T) {
	if *seedFlag == 0 && *timeFlag == 0 {
		for _, f := range fixed {
			t.Run(fmt.Sprintf("seed=%d overlap=%d %s", f.seed, f.overlap, f.kinds[0]), func(t *testing.T) { contract(t, f.seed, f.faults, f.overlap, f.kinds) })
		}
		return
	}
	began, played := time.Now(), 0
	for seed := cmp.Or(*seedFlag, uint64(began.Unix())); ; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { contract(t, seed, *faultsFlag, *overlapFlag, kinds()) })
		if played++; time.Since(began) >= *timeFlag {
			break
		}
	}
	t.Logf("%d schedules in %s", played, time.Since(began).Round(time.Second))
}

// most is how many violations of an invariant are told.
const most = 8

// contract plays the schedule of a seed, with n faults of these kinds, overlap of them at
// once, and checks what happened.
func contract(t *testing.T, seed uint64, n, overlap int, kinds []schedule.Kind) {
	faults := schedule.New(seed, n, schedule.Options{
		Kinds: possible(kinds), Nodes: []string{node1, node2}, Pods: changing, Spare: node3, Overlap: overlap,
	})
	if len(faults) == 0 {
		t.Fatalf("got no faults of kinds %q, want some of %v", kinds, schedule.Kinds)
	}
	c := castOf(faults)
	h := play(t, c, faults)
	told := map[string]int{}
	for _, v := range check.All(c.mesh(), h) {
		if told[v.Invariant]++; told[v.Invariant] <= most {
			t.Error(v)
		}
	}
	summarise(t, h)
	if t.Failed() {
		var names []string
		for _, k := range kinds {
			names = append(names, string(k))
		}
		t.Errorf("violations by invariant: %v. Again: make contract SEED=%d FAULTS=%d OVERLAP=%d KINDS=%s. History: %s", told, seed, n, overlap, strings.Join(names, ","), keep(t, seed, h))
	}
}

// possible returns the kinds that can be injected on this machine.
func possible(kinds []schedule.Kind) []schedule.Kind {
	if len(kinds) == 0 {
		kinds = schedule.Kinds
	}
	return slices.DeleteFunc(slices.Clone(kinds), func(k schedule.Kind) bool { return k.OfClock() && !inject.HasClock })
}

// summarise logs what happened, and fails the test if it tells nothing.
func summarise(t *testing.T, h *history.History) {
	t.Helper()
	outcomes, arrived := map[string]map[string]int{}, map[string]int{}
	for _, a := range h.Attempts {
		if outcomes[a.Client] == nil {
			outcomes[a.Client] = map[string]int{}
		}
		outcomes[a.Client][a.Outcome]++
	}
	for _, d := range h.Deliveries {
		arrived[d.Server]++
	}
	clear := map[string]int{}
	for _, s := range h.Sightings {
		clear[history.ClientOf(s.ID)]++
	}
	for _, name := range slices.Sorted(maps.Keys(outcomes)) {
		t.Logf("%s: %v", name, outcomes[name])
	}
	t.Logf("arrived: %v; in the clear: %v", arrived, clear)
	for name := range callers {
		if outcomes[name][history.OK] == 0 {
			t.Errorf("%s: got %v, want some answers", name, outcomes[name])
		}
	}
	for _, f := range h.Faults {
		tried := map[string]bool{}
		for _, a := range h.Attempts {
			if a.End.After(f.Began) && a.Start.Before(f.Healed) {
				tried[a.Client] = true
			}
		}
		for name := range callers {
			if !tried[name] {
				t.Errorf("%s: got no attempt of %s in it, want some", f.Fault, name)
			}
		}
	}
	if clear["outsider"] == 0 || clear["stranger"] == 0 {
		t.Errorf("got %v in the clear, want some from outside the mesh: the capture sees nothing", clear)
	}
}

// keep writes the history to a file.
func keep(t *testing.T, seed uint64, h *history.History) string {
	t.Helper()
	path := filepath.Join(os.TempDir(), fmt.Sprintf("underlane-contract-%d.jsonl", seed))
	f, err := os.Create(path)
	if err == nil {
		defer f.Close()
		err = h.Write(f)
	}
	if err != nil {
		t.Errorf("keep the history: %v", err)
	}
	return path
}
