package check

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/contract/schedule"
)

// PastStrict: whatever becomes of agents and controller, a strict pod's program receives
// nothing from a client outside the mesh, and nothing that came in the clear from another
// node (docs/security.md).
func PastStrict(m Mesh, h *history.History) (out []Violation) {
	strict := map[string]bool{}
	for _, t := range m.Targets {
		for _, pod := range t.Pods {
			strict[pod] = strict[pod] || t.Strict
		}
	}
	clear := map[string]bool{}
	for _, s := range h.Sightings {
		clear[s.ID] = true
	}
	byID := attempts(h)
	for _, d := range h.Deliveries {
		client, known := m.Clients[history.ClientOf(d.ID)]
		a := byID[d.ID]
		if a.ID == "" {
			a = history.Attempt{ID: d.ID, Start: d.At, End: d.At}
		}
		switch {
		case !strict[d.Server]:
		case !known || !client.Meshed:
			out = append(out, violate(h, "past-strict", a, "%s received it from outside the mesh", d.Server))
		case clear[d.ID]:
			out = append(out, violate(h, "past-strict", a, "%s received it, and a link carried it in the clear", d.Server))
		}
	}
	return out
}

// flow is a connection on a link, whatever the direction of a segment.
type flow [2]netip.AddrPort

func flowOf(s history.Sighting) flow {
	if s.To.Compare(s.From) < 0 {
		return flow{s.To, s.From}
	}
	return flow{s.From, s.To}
}

// InTheClear: what one pod of the mesh sends to another is encrypted between nodes
// (docs/security.md), unless the client fails open and its own agent is away, or one of
// the two is not in the mesh. A connection that was made in the clear stays so to its
// end (docs/ARCHITECTURE.md, When things fail).
func InTheClear(m Mesh, h *history.History) (out []Violation) {
	byID := attempts(h)
	allowed := map[flow]bool{} // by its first sighting
	told := map[string]bool{}
	seen := slices.Clone(h.Sightings)
	slices.SortStableFunc(seen, func(a, b history.Sighting) int { return a.At.Compare(b.At) })
	for _, s := range seen {
		client := m.Clients[history.ClientOf(s.ID)]
		if !client.Meshed {
			continue
		}
		a := byID[s.ID]
		if a.ID == "" {
			a = history.Attempt{ID: s.ID, Addr: s.To, Start: s.At, End: s.At}
		}
		ok, known := allowed[flowOf(s)]
		if !known {
			ok = slices.ContainsFunc(during(h, sinceDial(a)), func(f history.Fault) bool { return mayBeClear(m, f, a) })
			allowed[flowOf(s)] = ok
		}
		if !ok && !told[s.ID] {
			told[s.ID] = true
			out = append(out, violate(h, "in-the-clear", a, "a link carried it from %s to %s", s.From, s.To))
		}
	}
	return out
}

func mayBeClear(m Mesh, f history.Fault, a history.Attempt) bool {
	client := m.Clients[a.Client]
	switch {
	case slices.Contains(agentAway, f.Kind):
		return f.Node == client.Node && !client.FailClosed
	case f.Kind == schedule.PodUnlabelled:
		return of(m, f.Pod, a.To)
	case f.Kind == schedule.PodReplaced: // a new pod is in the mesh only when it is enrolled
		return of(m, f.Pod, a.To) && !client.FailClosed
	case f.Kind == schedule.NodeLost: // so are the pods that replace those of the node
		return slices.Contains(m.Targets[a.To].Nodes, f.Node) && !client.FailClosed
	}
	return false
}

// of reports whether a pod is the target, or one of its pods.
func of(m Mesh, pod, target string) bool { return slices.Contains(m.Targets[target].Pods, pod) }

// WrongPod: what answers, or receives, at an address is the pod that has it; what answers
// for a service is a pod of the service; and its program sees the client's own address.
func WrongPod(m Mesh, h *history.History) (out []Violation) {
	had := func(pod string, addr netip.Addr, a history.Attempt) bool {
		return slices.ContainsFunc(h.Tenures, func(t history.Tenure) bool {
			return t.Pod == pod && slices.Contains(t.Addrs, addr) && !t.From.After(a.End) && (t.To.IsZero() || !t.To.Before(a.Start))
		})
	}
	right := func(pod string, a history.Attempt) bool {
		return of(m, pod, a.To) && len(m.Targets[a.To].Pods) > 1 || had(pod, a.Addr.Addr(), a)
	}
	arrived := map[[2]string]bool{}
	byID := attempts(h)
	for _, d := range h.Deliveries {
		arrived[[2]string{d.ID, d.Run}] = true
		a := byID[d.ID]
		if a.ID == "" {
			continue // nothing is known of what it was for
		}
		if !right(d.Server, a) {
			out = append(out, violate(h, "wrong-pod", a, "%s received it", d.Server))
		}
		if !had(a.Client, d.From.Addr(), a) {
			out = append(out, violate(h, "wrong-pod", a, "%s takes %s for its client", d.Server, d.From))
		}
	}
	for _, a := range h.Attempts {
		switch {
		case a.Outcome == "wrong-answer":
			out = append(out, violate(h, "wrong-pod", a, "the answer is another attempt's"))
		case a.By != "" && !right(a.By, a):
			out = append(out, violate(h, "wrong-pod", a, "%s answered it", a.By))
		case a.Outcome == history.OK && !arrived[[2]string{a.ID, a.Run}]:
			out = append(out, violate(h, "wrong-pod", a, "it was answered and never arrived"))
		}
	}
	return out
}

// MoreThanOnce: what may not be repeated arrives once at most, wherever it fails.
func MoreThanOnce(_ Mesh, h *history.History) (out []Violation) {
	byID := attempts(h)
	count := map[string]int{}
	for _, d := range h.Deliveries {
		count[d.ID]++
		if a := byID[d.ID]; count[d.ID] == 2 && a.ID != "" && !a.How.Repeatable() {
			out = append(out, violate(h, "more-than-once", a, "%s received it, not as the first", d.Server))
		}
	}
	return out
}

// FailedOpen: while its agent is away, a client that fails closed makes no new
// connection.
func FailedOpen(m Mesh, h *history.History) (out []Violation) {
	for _, a := range h.Attempts {
		if c := m.Clients[a.Client]; c.FailClosed && fresh(a.How) && a.Outcome == history.OK && without(m, h, a, c.Node) {
			out = append(out, violate(h, "failed-open", a, "the client fails closed, and its agent was away"))
		}
	}
	return out
}
