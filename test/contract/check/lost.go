package check

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/contract/schedule"
)

// The names of the invariants of this file.
const (
	lost = "lost"
	hung = "hung"
)

// Lost: an attempt from which the client should have its answer has it, unless the
// documentation says that it is lost while something fails (docs/ARCHITECTURE.md, When
// things fail; docs/operations.md, Losing parts). Where faults overlap, what may be lost is
// what may be lost in one of them: two faults together excuse nothing that neither does. But
// for one thing: see deadEnds.
func Lost(m Mesh, h *history.History) (out []Violation) {
	outside := madeOutside(m, h)
	refused, dead := firstRefused(h), deadEnds(m, h)
	for _, a := range h.Attempts {
		c, t := m.Clients[a.Client], m.Targets[a.To]
		switch {
		case a.Outcome == history.OK, t.Strict && !c.Meshed, outside[a.From] && refused[a.From] == a.ID:
			continue
		case (!c.Meshed || outside[a.From]) && dead[a.From]:
			continue
		}
		if !slices.ContainsFunc(during(h, a), func(f history.Fault) bool { return mayBeLost(m, h, f, a) }) {
			out = append(out, violate(h, lost, a, "it has no answer, and nothing that was amiss explains it"))
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
		out[from] = m.Clients[a.Client].Meshed && ownAgentAway(m, h, sinceDial(a))
	}
	return out
}

// deadEnds returns the connections, by their clients' addresses, whose other end has gone
// without that the client could hear of it: the pod's node was lost for good, or what ended
// the connection was lost where a node was cut off. Who is there later knows nothing of them,
// and the first segment that reaches it is answered by a reset, long after the faults are
// healed. It is so without a mesh. In the mesh the agent of the client's node is the other
// end, and finds out.
func deadEnds(m Mesh, h *history.History) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for _, a := range h.Attempts {
		if fresh(a.How) || !a.From.IsValid() || out[a.From] {
			continue
		}
		out[a.From] = slices.ContainsFunc(h.Faults, func(f history.Fault) bool {
			if f.Kind == schedule.NodeLost {
				return a.Start.Before(f.Struck) && (onLostNode(h, f, a) || answeredOn(h, f.Node, a))
			}
			return a.Start.Before(f.Healed) && endsConnections(m, f, a) && unheard(m, h, f, a)
		})
	}
	return out
}

// endsConnections reports whether f ended connections to the target of an attempt.
func endsConnections(m Mesh, f history.Fault, a history.Attempt) bool {
	switch f.Kind {
	case schedule.PodReplaced:
		return of(m, f.Pod, a.To)
	case schedule.AgentKilled, schedule.AgentTerminated, schedule.AgentUpgraded:
		return slices.Contains(m.Targets[a.To].Nodes, f.Node)
	}
	return false
}

// unheard reports whether a node at either end of an attempt was cut off at some time in f.
func unheard(m Mesh, h *history.History, f history.Fault, a history.Attempt) bool {
	return slices.ContainsFunc(h.Faults, func(cut history.Fault) bool {
		return cut.Kind == schedule.NodeCut && cut.Began.Before(f.Healed) && f.Began.Before(cut.Healed) &&
			(cut.Node == m.Clients[a.Client].Node || slices.Contains(m.Targets[a.To].Nodes, cut.Node))
	})
}

// answeredOn reports whether a pod on the node answered an attempt, as one of a service's.
func answeredOn(h *history.History, node string, a history.Attempt) bool {
	return slices.ContainsFunc(h.Tenures, func(t history.Tenure) bool {
		return t.Pod == a.By && t.Node == node && t.From.Before(a.End) && (t.To.IsZero() || t.To.After(a.Start))
	})
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
		return carries && !passesBy(m, h, f, a)
	case schedule.AgentStarved:
		// Accepting pauses and goes on.
		return carries
	case schedule.NodeCut:
		// What stays on a node goes on.
		crosses := slices.ContainsFunc(t.Nodes, func(n string) bool { return n != c.Node })
		return crosses && (c.Node == f.Node || at(f.Node))
	case schedule.NodeLost:
		// Its pods are lost until others have replaced them. A service has other pods, but
		// everybody has to find out first, and a pod is deleted when the node is back.
		return at(f.Node) && (len(t.Pods) == 1 && onLostNode(h, f, a) ||
			a.Start.Before(f.Struck.Add(grace)) || a.End.After(f.Healing))
	case schedule.PodReplaced:
		// A service has other pods, and what was under way to this one is lost.
		return of(m, f.Pod, a.To) && (len(t.Pods) == 1 || a.Start.Before(f.Struck))
	case schedule.PodUnlabelled:
		// The client's agent and the server's hear of it one after the other.
		settling := a.Start.Before(f.Struck.Add(grace)) || a.End.After(f.Healing)
		return settling && of(m, f.Pod, a.To)
	case schedule.AgentUpgraded: // without a connection attempt lost
		return carries && closedIdle(a)
	case schedule.ControllerKilled, schedule.ControllerStopped, // agents go on with what they have
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

// closedIdle reports whether the client has written a request on an idle connection whose end had
// arrived, and whose end it saw before anything else (net/http). A server may close an idle connection
// at any time (RFC 9112 §9.5), and the client does not send a POST again by itself.
func closedIdle(a history.Attempt) bool {
	return a.How == history.HTTPKept && strings.HasSuffix(a.Error, "http: server closed idle connection")
}

// onLostNode reports whether the address that an attempt went to was that of a pod on the
// lost node, or of its replacement that was not known everywhere yet.
func onLostNode(h *history.History, f history.Fault, a history.Attempt) bool {
	return slices.ContainsFunc(h.Tenures, func(t history.Tenure) bool {
		if !slices.Contains(t.Addrs, a.Addr.Addr()) {
			return false
		}
		return t.Node == f.Node || t.From.After(f.Began) && a.Start.Before(t.From.Add(grace))
	})
}

// passesBy reports whether an attempt began and ended while the agent of f was away, and
// goes past it: a client that fails open has a new connection to a pod of another node that
// lets in anybody, as a client outside the mesh has to any such pod. Where the agents of both
// nodes are away, it has to go past both.
func passesBy(m Mesh, h *history.History, f history.Fault, a history.Attempt) bool {
	c, t := m.Clients[a.Client], m.Targets[a.To]
	if !fresh(a.How) || t.Strict || len(t.Pods) != 1 {
		return false
	}
	server := t.Nodes[0]
	leaves := !c.Meshed || !c.FailClosed && server != c.Node && without(m, h, a, c.Node)
	if c.Meshed && f.Node == c.Node {
		return leaves
	}
	return leaves && without(m, h, a, server)
}

// hangs is for how long an attempt may take, whatever becomes of it.
const hangs = 15 * time.Second

// keepAlive is when a client's own keepalive finds out, at the latest, that its connection
// leads nowhere.
const keepAlive = 18 * time.Second

// givesUp is when a client gives an attempt up by itself, at the latest.
const givesUp = 22 * time.Second

// Hung: no attempt hangs for longer than the faults that hold it up.
func Hung(m Mesh, h *history.History) (out []Violation) {
	dead, outside := deadEnds(m, h), madeOutside(m, h)
	for _, a := range h.Attempts {
		limit, least := hangs, time.Duration(0)
		if !m.Clients[a.Client].Meshed && dead[a.From] {
			least = givesUp
		}
		var holding []history.Fault
		for _, f := range during(h, a) {
			switch f.Kind {
			case schedule.AgentStopped, schedule.AgentStarved, schedule.NodeCut:
				holding = append(holding, f)
			case schedule.PodReplaced:
				bypasses := !m.Clients[a.Client].Meshed || outside[a.From] || ownAgentAway(m, h, a)
				if of(m, f.Pod, a.To) && bypasses && a.Start.Before(f.Healed) {
					// The answer to the first request that the pod, or later the guest,
					// refuses is lost if its network is removed in that moment.
					least = max(least, keepAlive)
				}
			case schedule.NodeLost:
				// Nothing tells a client outside the mesh, or one that went past its agent.
				if slices.Contains(m.Targets[a.To].Nodes, f.Node) && (!m.Clients[a.Client].Meshed || mayBeOutside(m, h, a)) {
					least = max(least, givesUp)
				}
			}
		}
		limit = max(limit+together(holding), least)
		if took := a.End.Sub(a.Start); took > limit {
			out = append(out, violate(h, hung, a, "it took %s, want %s at most", round(took), round(limit)))
		}
	}
	return out
}

// mayBeOutside reports whether an attempt may have gone past its client's agent, which was
// away at some time in it, or before it on the same connection.
func mayBeOutside(m Mesh, h *history.History, a history.Attempt) bool {
	return !fresh(a.How) || ownAgentAway(m, h, a)
}

// ownAgentAway reports whether the agent of the client's node was away at some time in an
// attempt.
func ownAgentAway(m Mesh, h *history.History, a history.Attempt) bool {
	return slices.ContainsFunc(during(h, a), func(f history.Fault) bool {
		return slices.Contains(agentAway, f.Kind) && f.Node == m.Clients[a.Client].Node
	})
}

// together is for how long one of the faults at least was there.
func together(faults []history.Fault) (sum time.Duration) {
	slices.SortFunc(faults, func(a, b history.Fault) int { return a.Began.Compare(b.Began) })
	var end time.Time
	for _, f := range faults {
		began := f.Began
		if began.Before(end) {
			began = end
		}
		if f.Healed.After(began) {
			sum += f.Healed.Sub(began)
			end = f.Healed
		}
	}
	return sum
}
