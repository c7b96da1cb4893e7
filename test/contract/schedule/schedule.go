// Package schedule makes the faults of a run from its seed. The same seed gives the
// same faults, in the same order, for the same times, on every machine.
package schedule

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is what goes wrong.
type Kind string

// The kinds of faults.
const (
	AgentKilled       Kind = "agent-killed"       // SIGKILL, later a new agent
	AgentStopped      Kind = "agent-stopped"      // SIGSTOP, later SIGCONT
	AgentTerminated   Kind = "agent-terminated"   // SIGTERM, later a new agent
	AgentUpgraded     Kind = "agent-upgraded"     // replaced by one with --take-over
	AgentStarved      Kind = "agent-starved"      // may open a few more descriptors only
	ControllerKilled  Kind = "controller-killed"  // SIGKILL, later a new controller
	ControllerStopped Kind = "controller-stopped" // SIGSTOP, later SIGCONT: as one that is slow
	NodeCut           Kind = "node-cut"           // packets from other nodes are dropped
	PodReplaced       Kind = "pod-replaced"       // Pod is deleted, another pod gets its address, and later Pod comes back
	PodUnlabelled     Kind = "pod-unlabelled"     // Pod leaves the mesh, and later joins it again
	RootRotated       Kind = "root-rotated"       // the controller signs with a new root
	HandshakeStorm    Kind = "handshake-storm"    // hundreds of connections at once, from a pod of Node to Pod

	AgentClock       Kind = "agent-clock"       // the agent's wall clock is stepped by Step, and back
	ControllerClock  Kind = "controller-clock"  // the controller's wall clock is stepped by Step, and back
	ControllerSlowed Kind = "controller-slowed" // runs for a twentieth of the time
	MapsFull         Kind = "maps-full"         // the kernel's maps of a node are full

	// NodeLost: Node vanishes for good, with its agent and its pods, which others replace on
	// another node. Later a new node has its name and its addresses.
	NodeLost Kind = "node-lost"
)

// Fault is one fault of a schedule.
type Fault struct {
	Kind  Kind          `json:"kind"`
	Node  string        `json:"node,omitempty"` // where, for the kinds of agents and nodes
	Pod   string        `json:"pod,omitempty"`  // which, for the kinds of pods
	With  bool          `json:"with,omitempty"` // it strikes while the fault before it is there, and is healed before that
	After time.Duration `json:"after"`          // from when the fault before it is healed; With: has struck
	For   time.Duration `json:"for"`            // from when it, or the last fault With it, has struck until its healing begins
	Step  time.Duration `json:"step,omitempty"` // for the kinds of clocks: by how much
}

func (f Fault) String() string {
	if f.Step != 0 {
		return fmt.Sprintf("%s %s by %s for %s", f.Kind, cmp.Or(f.Node, "controller"), f.Step, f.For)
	}
	return fmt.Sprintf("%s %s for %s", f.Kind, cmp.Or(f.Pod, f.Node, "controller"), f.For)
}

// Bounds of the times of faults. A fault lasts on both sides of the time after which an
// agent counts as hung (2 s), and of that for which its absence is remembered (0.5 s).
const (
	minAfter, maxAfter = 500 * time.Millisecond, 2 * time.Second
	minFor, maxFor     = 100 * time.Millisecond, 4 * time.Second
)

// maxStep is by how much a clock is stepped at most, in either direction: less than a
// third of the lifetime of the run's certificates, and than the minute by which the
// authority backdates them. The mesh promises nothing beyond.
const maxStep = 10 * time.Second

// Options are what a schedule is made of. Without Nodes, Pods or Spare, the kinds that need
// one do not occur.
type Options struct {
	Kinds []Kind   // those that may occur; all if nil
	Nodes []string // whose agents, and which of them, may fail
	Pods  []string // that may be replaced or unlabelled
	Spare string   // node that may be lost
	// Overlap is how many faults are there at the same time, at most; 0 and 1: one after
	// the other.
	Overlap int
}

// Kinds are all kinds. The order is part of what a seed means: new ones are added at the
// end.
var Kinds = []Kind{
	AgentKilled, AgentStopped, AgentTerminated, AgentUpgraded, AgentStarved,
	ControllerKilled, ControllerStopped, NodeCut, PodReplaced, PodUnlabelled, RootRotated, HandshakeStorm,
	AgentClock, ControllerClock, ControllerSlowed, MapsFull, NodeLost,
}

// OfNode reports whether a fault of this kind is one of a node.
func (k Kind) OfNode() bool {
	return slices.Contains([]Kind{AgentKilled, AgentStopped, AgentTerminated, AgentUpgraded, AgentStarved, NodeCut, HandshakeStorm, AgentClock, MapsFull, NodeLost}, k)
}

// OfPod reports whether a fault of this kind is one of a pod.
func (k Kind) OfPod() bool {
	return slices.Contains([]Kind{PodReplaced, PodUnlabelled, HandshakeStorm}, k)
}

// OfClock reports whether a fault of this kind steps a clock.
func (k Kind) OfClock() bool { return k == AgentClock || k == ControllerClock }

// New returns the first n faults of a seed. A schedule of more faults begins with those
// of a shorter one, if both are of whole groups of Overlap. Every kind occurs once before
// one occurs again, as far as the kinds that are left may overlap.
func New(seed uint64, n int, o Options) []Fault {
	kinds := slices.DeleteFunc(slices.Clone(Kinds), func(k Kind) bool {
		return o.Kinds != nil && !slices.Contains(o.Kinds, k) || k.OfPod() && len(o.Pods) == 0 ||
			k.OfNode() && k != NodeLost && len(o.Nodes) == 0 || k == NodeLost && o.Spare == ""
	})
	if len(kinds) == 0 {
		return nil
	}
	d := dealer{Options: o, kinds: kinds, r: rand.New(rand.NewPCG(seed, 0))}
	var out []Fault
	for len(out) < n {
		out = append(out, d.group(min(max(o.Overlap, 1), n-len(out)))...)
	}
	return out
}

// dealer deals faults.
type dealer struct {
	Options
	kinds []Kind
	bag   []Kind // those of kinds that have not been dealt since all were
	r     *rand.Rand
}

// group returns a fault, and up to n-1 more that strike while it is there.
func (d *dealer) group(n int) []Fault {
	if len(d.bag) == 0 {
		d.bag = slices.Clone(d.kinds)
		d.r.Shuffle(len(d.bag), func(i, j int) { d.bag[i], d.bag[j] = d.bag[j], d.bag[i] })
	}
	var out []Fault
	for i := 0; i < len(d.bag) && len(out) < n; {
		f := d.fault(d.bag[i])
		if slices.ContainsFunc(out, func(other Fault) bool { return excludes(f, other) }) {
			i++ // another group has it
			continue
		}
		d.bag = slices.Delete(d.bag, i, i+1)
		out = append(out, f)
	}
	slices.SortStableFunc(out, func(a, b Fault) int { return cmp.Compare(a.Kind.depth(), b.Kind.depth()) })
	for i := range out[1:] {
		out[1+i].With = true
	}
	return out
}

func (d *dealer) fault(k Kind) Fault {
	f := Fault{Kind: k, After: between(d.r, minAfter, maxAfter), For: between(d.r, minFor, maxFor)}
	switch {
	case f.Kind == NodeLost:
		f.Node = d.Spare
	case f.Kind.OfNode():
		f.Node = d.Nodes[d.r.IntN(len(d.Nodes))]
	}
	if f.Kind.OfPod() {
		f.Pod = d.Pods[d.r.IntN(len(d.Pods))]
	}
	if f.Kind.OfClock() {
		f.Step = time.Second + time.Duration(d.r.Int64N(int64(maxStep/time.Second)))*time.Second
		if d.r.IntN(2) == 0 {
			f.Step = -f.Step
		}
	}
	return f
}

// between is a time in whole milliseconds.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64((most-least)/time.Millisecond)))*time.Millisecond
}
