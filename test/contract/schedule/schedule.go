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
)

// Fault is one fault of a schedule.
type Fault struct {
	Kind  Kind          `json:"kind"`
	Node  string        `json:"node,omitempty"` // where, for the kinds of agents and nodes
	Pod   string        `json:"pod,omitempty"`  // which, for the kinds of pods
	After time.Duration `json:"after"`          // from when the fault before it is healed
	For   time.Duration `json:"for"`            // from when it has struck until its healing begins
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

// Options are what a schedule is made of. Without Nodes, or without Pods, the kinds that
// need one do not occur.
type Options struct {
	Kinds []Kind   // those that may occur; all if nil
	Nodes []string // whose agents, and which of them, may fail
	Pods  []string // that may be replaced or unlabelled
}

// Kinds are all kinds. The order is part of what a seed means: new ones are added at the
// end.
var Kinds = []Kind{
	AgentKilled, AgentStopped, AgentTerminated, AgentUpgraded, AgentStarved,
	ControllerKilled, ControllerStopped, NodeCut, PodReplaced, PodUnlabelled, RootRotated, HandshakeStorm,
	AgentClock, ControllerClock, ControllerSlowed, MapsFull,
}

// OfNode reports whether a fault of this kind is one of a node.
func (k Kind) OfNode() bool {
	return slices.Contains([]Kind{AgentKilled, AgentStopped, AgentTerminated, AgentUpgraded, AgentStarved, NodeCut, HandshakeStorm, AgentClock, MapsFull}, k)
}

// OfPod reports whether a fault of this kind is one of a pod.
func (k Kind) OfPod() bool {
	return slices.Contains([]Kind{PodReplaced, PodUnlabelled, HandshakeStorm}, k)
}

// OfClock reports whether a fault of this kind steps a clock.
func (k Kind) OfClock() bool { return k == AgentClock || k == ControllerClock }

// New returns the first n faults of a seed. A schedule of more faults begins with those
// of a shorter one. Every kind occurs once before one occurs again.
func New(seed uint64, n int, o Options) []Fault {
	kinds := slices.DeleteFunc(slices.Clone(Kinds), func(k Kind) bool {
		return o.Kinds != nil && !slices.Contains(o.Kinds, k) || k.OfNode() && len(o.Nodes) == 0 || k.OfPod() && len(o.Pods) == 0
	})
	if len(kinds) == 0 {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, 0))
	var bag []Kind
	var out []Fault
	for range n {
		if len(bag) == 0 {
			bag = slices.Clone(kinds)
			r.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		f := Fault{Kind: bag[0], After: between(r, minAfter, maxAfter), For: between(r, minFor, maxFor)}
		bag = bag[1:]
		if f.Kind.OfNode() {
			f.Node = o.Nodes[r.IntN(len(o.Nodes))]
		}
		if f.Kind.OfPod() {
			f.Pod = o.Pods[r.IntN(len(o.Pods))]
		}
		if f.Kind.OfClock() {
			f.Step = time.Second + time.Duration(r.Int64N(int64(maxStep/time.Second)))*time.Second
			if r.IntN(2) == 0 {
				f.Step = -f.Step
			}
		}
		out = append(out, f)
	}
	return out
}

// between is a time in whole milliseconds.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64((most-least)/time.Millisecond)))*time.Millisecond
}
