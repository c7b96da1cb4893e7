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

// played is a schedule that is played always.
type played struct {
	seed    uint64
	faults  int
	overlap int
	kinds   []schedule.Kind // all if nil
}

func (p played) String() string { return fmt.Sprintf("seed=%d overlap=%d", p.seed, p.overlap) }

// short are the schedules of the short form: every kind once, and the main kinds two at a
// time. Of the seeds, these have short times: see TestShort.
var short = []played{
	{64969, len(schedule.Kinds), 1, nil},
	{2, 6, 2, []schedule.Kind{schedule.AgentKilled, schedule.AgentStopped, schedule.ControllerKilled, schedule.NodeCut, schedule.PodReplaced, schedule.PodUnlabelled}},
}

// fixed are the schedules of the full form, if no seed is given, beside the short ones.
var fixed = []played{
	{1, 5, 1, []schedule.Kind{schedule.AgentKilled, schedule.AgentStopped, schedule.AgentTerminated, schedule.AgentUpgraded, schedule.PodReplaced}},
	{4, 5, 1, []schedule.Kind{schedule.ControllerKilled, schedule.NodeCut, schedule.PodUnlabelled, schedule.RootRotated, schedule.HandshakeStorm}},
	{9, 5, 1, []schedule.Kind{schedule.AgentStarved, schedule.AgentClock, schedule.ControllerClock, schedule.ControllerSlowed, schedule.MapsFull}},
	{1, 1, 1, []schedule.Kind{schedule.NodeLost}},
	{2, 6, 2, []schedule.Kind{schedule.AgentKilled, schedule.AgentStopped, schedule.ControllerKilled, schedule.NodeCut, schedule.PodReplaced, schedule.HandshakeStorm}},
}

// TestContract is the short form, a part of `make test`.
func TestContract(t *testing.T) { playAll(t, short) }

// TestFullContract plays schedules, and wants none to violate an invariant.
func TestFullContract(t *testing.T) {
	if *seedFlag == 0 && *timeFlag == 0 {
		playAll(t, fixed)
		return
	}
	began, n := time.Now(), 0
	for seed := cmp.Or(*seedFlag, uint64(began.Unix())); ; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { contract(t, played{seed, *faultsFlag, *overlapFlag, kinds()}) })
		if n++; time.Since(began) >= *timeFlag {
			break
		}
	}
	t.Logf("%d schedules in %s", n, time.Since(began).Round(time.Second))
}

func playAll(t *testing.T, all []played) {
	for _, p := range all {
		t.Run(p.String(), func(t *testing.T) { contract(t, p) })
	}
}

// TestShort: the short form has every kind of fault, for as long as one has to be there to
// show what it shows, and is short.
func TestShort(t *testing.T) {
	seen := map[schedule.Kind]bool{}
	var sum time.Duration
	for _, p := range short {
		faults, overlapping := p.schedule(), 0
		for _, f := range faults {
			seen[f.Kind] = true
			sum += f.After + f.For
			if f.With {
				overlapping++
			}
			if f.Kind == schedule.AgentStopped && p.overlap == 1 && f.For <= heartbeat+500*time.Millisecond {
				t.Errorf("%s: got %s, want it for longer than %s, after which the agent counts as hung", p, f, heartbeat)
			}
			if (f.Kind == schedule.AgentKilled || f.Kind == schedule.NodeCut || f.Kind == schedule.ControllerKilled) && f.For < time.Second && p.overlap == 1 {
				t.Errorf("%s: got %s, want it for a second at least", p, f)
			}
		}
		if p.overlap > 1 && overlapping == 0 {
			t.Errorf("%s: got no faults that overlap: %v", p, faults)
		}
	}
	for _, k := range possible(nil) {
		if !seen[k] {
			t.Errorf("got no fault of kind %s", k)
		}
	}
	if sum > 75*time.Second {
		t.Errorf("the faults last %s, want 75 s at most: look for other seeds", sum)
	}
}

// most is how many violations of an invariant are told.
const most = 8

// agentArgs are what the agents are told beside what all are. In the schedules of odd seeds each
// opaque connection has a handshake of its own: hundreds at once are a storm then. In the others
// most of them are streams.
func (p played) agentArgs() []string {
	return []string{fmt.Sprintf("--opaque-streams=%t", p.seed%2 == 0)}
}

// schedule returns its faults.
func (p played) schedule() []schedule.Fault {
	return schedule.New(p.seed, p.faults, schedule.Options{
		Kinds: possible(p.kinds), Nodes: []string{node1, node2}, Pods: changing, Spare: node3, Overlap: p.overlap,
	})
}

// contract plays a schedule and checks what happened.
func contract(t *testing.T, p played) {
	faults := p.schedule()
	if len(faults) == 0 {
		t.Fatalf("got no faults of kinds %q, want some of %v", p.kinds, schedule.Kinds)
	}
	c := castOf(faults)
	h := play(t, c, faults, p.agentArgs()...)
	told, untold := map[string]int{}, map[string]int{}
	for _, v := range check.All(c.mesh(), h) {
		if check.Untold(h, v) {
			if untold[v.Invariant]++; untold[v.Invariant] <= 2 {
				t.Log("not judged: ", v)
			}
			continue
		}
		if told[v.Invariant]++; told[v.Invariant] <= most {
			t.Error(v)
		}
	}
	summarise(t, h)
	if slow := check.Overloaded(h); slow > 0 {
		t.Logf("the machine was overloaded for %s. What violated an invariant then, and is not judged: %v", slow.Round(time.Second), untold)
	}
	if t.Failed() {
		var names []string
		for _, k := range p.kinds {
			names = append(names, string(k))
		}
		t.Errorf("violations by invariant: %v. Again: make contract SEED=%d FAULTS=%d OVERLAP=%d KINDS=%s. History: %s", told, p.seed, p.faults, p.overlap, strings.Join(names, ","), keep(t, p.seed, h))
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
	t.Logf("computing took %s times as long as its processor time", factors(h.Loads))
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

// factors are the median and the largest of the measurements.
func factors(loads []history.Load) string {
	if len(loads) == 0 {
		return "an unknown number of"
	}
	var all []float64
	for _, l := range loads {
		all = append(all, l.Factor)
	}
	slices.Sort(all)
	return fmt.Sprintf("%.1f (median) to %.1f", all[len(all)/2], all[len(all)-1])
}

// keep writes the history to a file.
func keep(t *testing.T, seed uint64, h *history.History) string {
	t.Helper()
	// Not in os.TempDir, which scripts/test.sh empties at its end.
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", fmt.Sprintf("underlane-contract-%d.jsonl", seed)))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err != nil {
		t.Errorf("keep the history: %v", err)
		return path
	}
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
