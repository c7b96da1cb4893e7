package check

import (
	"net/netip"
	"slices"
	"time"

	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/contract/schedule"
)

// Lost: an attempt from which the client should have its answer has it, unless the
// documentation says that it is lost while something fails (docs/ARCHITECTURE.md, When
// things fail; docs/operations.md, Losing parts).
func Lost(m Mesh, h *history.History) (out []Violation) {
	outside := madeOutside(m, h)
	refused := firstRefused(h)
	for _, a := range h.Attempts {
		c, t := m.Clients[a.Client], m.Targets[a.To]
		if a.Outcome == history.OK || t.Strict && !c.Meshed || outside[a.From] && refused[a.From] == a.ID {
			continue
		}
		if !slices.ContainsFunc(during(h, a), func(f history.Fault) bool { return mayBeLost(m, h, f, a) }) {
			out = append(out, violate(h, "lost", a, "it has no answer, and nothing that was amiss explains it"))
		}
	}
	return out
}

// firstRefused returns the first attempt on each connection, by its client's address, that
// was refused for lack of an identity. The connection ends with it, so that there is no
// second.
func firstRefused(h *history.History) map[netip.AddrPort]string {
	first := map[netip.AddrPort]history.Attempt{}
	for _, a := range h.Attempts {
		if f, ok := first[a.From]; a.Reason == "no-identity" && a.From.IsValid() && (!ok || a.Start.Before(f.Start)) {
			first[a.From] = a
		}
	}
	out := map[netip.AddrPort]string{}
	for from, a := range first {
		out[from] = a.ID
	}
	return out
}

// madeOutside returns the connections, by their clients' addresses, that clients made while
// their agents were away. They stay outside the mesh, until a strict pod refuses a request
// on them.
func madeOutside(m Mesh, h *history.History) map[netip.AddrPort]bool {
	first := map[netip.AddrPort]history.Attempt{}
	for _, a := range h.Attempts {
		if f, ok := first[a.From]; !fresh(a.How) && a.From.IsValid() && (!ok || a.Start.Before(f.Start)) {
			first[a.From] = a
		}
	}
	out := map[netip.AddrPort]bool{}
	for from, a := range first {
		out[from] = slices.ContainsFunc(during(h, a), func(f history.Fault) bool {
			c := m.Clients[a.Client]
			return slices.Contains(agentAway, f.Kind) && f.Node == c.Node && c.Meshed
		})
	}
	return out
}

// mayBeLost reports whether the documentation allows a to be lost in f.
func mayBeLost(m Mesh, h *history.History, f history.Fault, a history.Attempt) bool {
	c, t := m.Clients[a.Client], m.Targets[a.To]
	at := func(node string) bool { return slices.Contains(t.Nodes, node) }
	carries := f.Node == c.Node && c.Meshed || at(f.Node) // the agent of f, without the fault
	switch f.Kind {
	case schedule.AgentKilled, schedule.AgentStopped, schedule.AgentTerminated:
		// Its connections are cut or stand still. New ones to its strict pods and from
		// other pods of the mesh are refused, others pass by the mesh.
		return carries && !passesBy(m, h, a)
	case schedule.AgentStarved:
		// Accepting pauses and goes on.
		return carries
	case schedule.NodeCut:
		// What stays on a node goes on.
		crosses := slices.ContainsFunc(t.Nodes, func(n string) bool { return n != c.Node })
		return crosses && (c.Node == f.Node || at(f.Node))
	case schedule.PodReplaced:
		// A service has other pods, and what was under way to this one is lost.
		return of(m, f.Pod, a.To) && (len(t.Pods) == 1 || a.Start.Before(f.Struck))
	case schedule.PodUnlabelled:
		// The client's agent and the server's hear of it one after the other.
		settling := a.Start.Before(f.Struck.Add(grace)) || a.End.After(f.Healing)
		return settling && of(m, f.Pod, a.To)
	case schedule.AgentUpgraded, // without a connection attempt lost
		schedule.ControllerKilled, schedule.ControllerStopped, // agents go on with what they have
		schedule.ControllerSlowed,
		schedule.RootRotated,                          // connections that are open go on
		schedule.HandshakeStorm,                       // handshakes wait for their turn
		schedule.AgentClock, schedule.ControllerClock: // certificates are backdated, and renewed in time
		return false
	case schedule.MapsFull:
		// Connections that were captured when the maps filled up, and not accepted yet.
		return carries && a.Start.Before(f.Struck)
	}
	return false
}

// passesBy reports whether an attempt began and ended while an agent was away, and goes
// past the mesh: a client that fails open has a new connection to a pod of another node
// that lets in anybody, as a client outside the mesh has to any such pod.
func passesBy(m Mesh, h *history.History, a history.Attempt) bool {
	c, t := m.Clients[a.Client], m.Targets[a.To]
	if !fresh(a.How) || t.Strict || len(t.Pods) != 1 {
		return false
	}
	if c.Meshed {
		return !c.FailClosed && t.Nodes[0] != c.Node && without(m, h, a, c.Node)
	}
	return without(m, h, a, t.Nodes[0])
}

// Limits of the time that an attempt may take, whatever becomes of it.
const hangs = 15 * time.Second

// keepAlive is when a client's own keep-alive finds out, at the latest, that its connection
// leads nowhere.
const keepAlive = 18 * time.Second

// Hung: no attempt hangs for longer than a fault that holds it up.
func Hung(m Mesh, h *history.History) (out []Violation) {
	for _, a := range h.Attempts {
		limit := hangs
		for _, f := range during(h, a) {
			if slices.Contains([]schedule.Kind{schedule.AgentStopped, schedule.AgentStarved, schedule.NodeCut}, f.Kind) {
				limit += f.Healed.Sub(f.Began)
			}
			if f.Kind == schedule.PodReplaced && of(m, f.Pod, a.To) && !m.Clients[a.Client].Meshed && a.Start.Before(f.Struck) {
				// The agent accepts until the pod's network is removed, and the answer to
				// what came just before is lost with it.
				limit = max(limit, keepAlive)
			}
		}
		if took := a.End.Sub(a.Start); took > limit {
			out = append(out, violate(h, "hung", a, "it took %s, want %s at most", round(took), round(limit)))
		}
	}
	return out
}
