package check

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/contract/history"
	"github.com/underlane/underlane/test/contract/schedule"
)

var mesh = Mesh{
	Clients: map[string]Client{
		"open": {Node: "node-1", Meshed: true}, "closed": {Node: "node-1", Meshed: true, FailClosed: true}, "outsider": {Node: "node-1"},
	},
	Targets: map[string]Target{
		"far":    {Pods: []string{"far"}, Nodes: []string{"node-2"}},
		"near":   {Pods: []string{"near"}, Nodes: []string{"node-1"}},
		"strict": {Pods: []string{"strict"}, Nodes: []string{"node-2"}, Strict: true},
		"web":    {Pods: []string{"web-1", "web-2"}, Nodes: []string{"node-1", "node-2"}},
		"remote": {Pods: []string{"remote"}, Nodes: []string{"node-3"}},
		"wide":   {Pods: []string{"web-1", "remote"}, Nodes: []string{"node-1", "node-3"}},
	},
	Heartbeat: 2 * time.Second,
}

// addrs are those of the pods, and of the service.
var addrs = map[string]netip.Addr{
	"open": addr("10.77.1.2"), "closed": addr("10.77.1.3"), "outsider": addr("10.77.1.4"), "near": addr("10.77.1.5"), "web-1": addr("10.77.1.6"),
	"remote": addr("10.77.3.2"), "wide": addr("10.78.0.2"),
	"far": addr("10.77.2.2"), "strict": addr("10.77.2.3"), "web-2": addr("10.77.2.4"), "web": addr("10.78.0.1"),
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at is a number of seconds into the run.
func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

// story is a history that a test tells.
type story struct {
	history.History
	n int
}

func newStory() *story {
	s := &story{}
	for pod, a := range addrs {
		if pod != "web" && pod != "wide" {
			s.Tenures = append(s.Tenures, history.Tenure{Pod: pod, Node: fmt.Sprintf("node-%d", a.As4()[2]), Addrs: []netip.Addr{a}, From: at(0)})
		}
	}
	return s
}

// attempt adds one of 10 ms. If it is OK the pod answers it.
func (s *story) attempt(client, to string, how history.How, start float64, outcome, by string) history.Attempt {
	s.n++
	a := history.Attempt{
		ID: history.NewID(client, s.n), Client: client, To: to, Addr: netip.AddrPortFrom(addrs[to], 7000), How: how,
		Start: at(start), End: at(start + 0.01), Outcome: outcome,
	}
	if outcome == history.OK {
		a.By, a.Run = by, by+"-1"
		s.deliver(a, by)
	}
	s.Attempts = append(s.Attempts, a)
	return a
}

func (s *story) deliver(a history.Attempt, server string) {
	s.Deliveries = append(s.Deliveries, history.Delivery{At: a.End, ID: a.ID, Server: server, Run: server + "-1", From: netip.AddrPortFrom(addrs[a.Client], 40000)})
}

// clear has the link carry an attempt in the clear, on a connection from a port.
func (s *story) clear(a history.Attempt, port uint16) {
	s.Sightings = append(s.Sightings, history.Sighting{At: a.Start, ID: a.ID, From: netip.AddrPortFrom(addrs[a.Client], port), To: a.Addr})
}

// fault begins and strikes at a time, and is healed a second before and at the end.
func (s *story) fault(kind schedule.Kind, where string, began, healed float64) {
	f := history.Fault{Fault: schedule.Fault{Kind: kind}, Began: at(began), Struck: at(began + 0.1), Healing: at(healed - 1), Healed: at(healed)}
	if kind.OfPod() {
		f.Pod = where
	} else {
		f.Node = where
	}
	s.Faults = append(s.Faults, f)
}

// TestAll tells stories and wants their violations.
func TestAll(t *testing.T) {
	type tell = func(s *story)
	for name, c := range map[string]struct {
		tell tell
		want []string
	}{
		"nothing happens": {tell: func(s *story) {
			for _, how := range history.Ways {
				s.attempt("open", "far", how, 1, history.OK, "far")
				s.attempt("closed", "strict", how, 2, history.OK, "strict")
				s.attempt("outsider", "near", how, 3, history.OK, "near")
				s.attempt("outsider", "strict", how, 3, "status 403", "")
				s.attempt("open", "web", how, 4, history.OK, "web-2")
			}
		}},

		// Past strict.
		"an outsider is answered": {func(s *story) { s.attempt("outsider", "strict", history.TCP, 1, history.OK, "strict") }, []string{"past-strict"}},
		"an outsider is heard": {func(s *story) {
			s.fault(schedule.AgentStopped, "node-2", 0, 5)
			s.deliver(s.attempt("outsider", "strict", history.TCP, 4, "eof", ""), "strict")
		}, []string{"past-strict"}},
		"an outsider that ended without a word is heard": {func(s *story) {
			s.deliver(history.Attempt{ID: history.NewID("outsider", 9), Client: "outsider"}, "strict")
		}, []string{"past-strict"}},
		"a client that is in the mesh comes in the clear": {func(s *story) {
			s.fault(schedule.AgentKilled, "node-1", 0, 5)
			s.clear(s.attempt("open", "strict", history.TCP, 2, history.OK, "strict"), 1)
		}, []string{"past-strict"}},

		// In the clear.
		"in the clear":                                 {func(s *story) { s.clear(s.attempt("open", "far", history.TCP, 1, history.OK, "far"), 1) }, []string{"in-the-clear"}},
		"in the clear, from outside the mesh":          {tell: func(s *story) { s.clear(s.attempt("outsider", "far", history.TCP, 1, history.OK, "far"), 1) }},
		"in the clear, the server's agent is away":     {clearIn(schedule.AgentKilled, "node-2", "open"), []string{"in-the-clear"}},
		"in the clear, the client's agent is away":     {tell: clearIn(schedule.AgentKilled, "node-1", "open")},
		"in the clear, and the client fails closed":    {clearIn(schedule.AgentStopped, "node-1", "closed"), []string{"in-the-clear", "failed-open"}},
		"in the clear, the agent is replaced":          {clearIn(schedule.AgentUpgraded, "node-1", "open"), []string{"in-the-clear"}},
		"in the clear, the pod is new":                 {tell: clearIn(schedule.PodReplaced, "far", "open")},
		"in the clear, another pod is new":             {clearIn(schedule.PodReplaced, "near", "open"), []string{"in-the-clear"}},
		"in the clear, the pod is not in the mesh":     {tell: clearIn(schedule.PodUnlabelled, "far", "closed")},
		"a connection stays in the clear":              {tell: keptClear(1)},
		"a later connection is in the clear":           {keptClear(2), []string{"in-the-clear"}},
		"a connection that was dialled outside":        {tell: dialledClear(2)},
		"a connection that was dialled inside":         {dialledClear(29), []string{"in-the-clear", "lost"}},
		"in the clear, and the client ended meanwhile": {func(s *story) { s.clear(history.Attempt{ID: history.NewID("open", 9), Client: "open"}, 1) }, []string{"in-the-clear"}},
		"in the clear twice is one violation": {func(s *story) {
			a := s.attempt("open", "far", history.TCP, 1, history.OK, "far")
			s.clear(a, 1)
			s.clear(a, 1)
		}, []string{"in-the-clear"}},
		"in the clear, long after the agent was back": {func(s *story) {
			s.fault(schedule.AgentKilled, "node-1", 0, 2)
			s.clear(s.attempt("open", "far", history.TCP, 9, history.OK, "far"), 1)
		}, []string{"in-the-clear"}},
		"in the clear, no fault is related to the agent": {clearIn(schedule.ControllerKilled, "", "open"), []string{"in-the-clear"}},

		// The wrong pod.
		"another pod answers":                       {func(s *story) { s.attempt("open", "far", history.TCP, 1, history.OK, "near") }, []string{"wrong-pod", "wrong-pod"}},
		"a pod answers that is none of the service": {func(s *story) { s.attempt("open", "web", history.TCP, 1, history.OK, "far") }, []string{"wrong-pod", "wrong-pod"}},
		"the pod that has the address now answers": {tell: func(s *story) {
			s.handOver("far", "new", 2)
			s.attempt("open", "far", history.TCP, 1, history.OK, "far")
			s.attempt("open", "far", history.TCP, 3, history.OK, "new")
			s.attempt("open", "far", history.TCP, 1.995, history.OK, "far")
			s.attempt("open", "far", history.TCP, 1.995, history.OK, "new")
		}},
		"the pod that had the address answers": {func(s *story) {
			s.handOver("far", "new", 2)
			s.attempt("open", "far", history.TCP, 3, history.OK, "far")
		}, []string{"wrong-pod", "wrong-pod"}},
		"a pod receives what is another's": {func(s *story) {
			s.deliver(s.attempt("open", "far", history.HTTPGet, 1, history.OK, "far"), "near")
		}, []string{"wrong-pod"}},
		"the server sees another client": {func(s *story) {
			s.attempt("open", "far", history.TCP, 1, history.OK, "far")
			s.Deliveries[0].From = netip.AddrPortFrom(addrs["closed"], 1)
		}, []string{"wrong-pod"}},
		"an answer to nothing": {func(s *story) {
			s.attempt("open", "far", history.TCP, 1, history.OK, "far")
			s.Deliveries = nil
		}, []string{"wrong-pod"}},
		"the answer of another": {func(s *story) { s.attempt("open", "far", history.TCP, 1, "wrong-answer", "") }, []string{"wrong-pod", "lost"}},

		// More than once.
		"a POST arrives twice": {twice(history.HTTPPost, "web-1"), []string{"more-than-once"}},
		"bytes arrive at two":  {twice(history.TCP, "web-2"), []string{"more-than-once"}},
		"a GET arrives twice":  {tell: twice(history.HTTPGet, "web-1")},

		// Closed, and open all the same.
		"a client fails open": {func(s *story) {
			s.fault(schedule.AgentKilled, "node-1", 0, 5)
			s.attempt("closed", "near", history.TCP, 2, history.OK, "near")
		}, []string{"failed-open"}},
		"a stopped agent is not noticed yet": {tell: func(s *story) {
			s.fault(schedule.AgentStopped, "node-1", 0, 5)
			s.attempt("closed", "near", history.TCP, 1, history.OK, "near")
		}},
		"a connection that was there": {tell: func(s *story) {
			s.fault(schedule.AgentStopped, "node-1", 0, 5)
			s.attempt("closed", "near", history.HTTPKept, 3, history.OK, "near")
		}},

		// Lost.
		"lost for nothing":                            {func(s *story) { s.attempt("open", "far", history.TCP, 1, "ECONNRESET", "") }, []string{"lost"}},
		"lost, the server's agent is away":            {tell: lostIn(schedule.AgentKilled, "node-2", "open", "far")},
		"lost, another node's agent is away":          {lostIn(schedule.AgentKilled, "node-1", "outsider", "far"), []string{"lost"}},
		"lost, the client's agent is away":            {lostIn(schedule.AgentKilled, "node-1", "open", "far"), []string{"lost"}},
		"lost, the client's agent is away, closed":    {tell: lostIn(schedule.AgentKilled, "node-1", "closed", "far")},
		"lost, the client's agent is away, strict":    {tell: lostIn(schedule.AgentKilled, "node-1", "open", "strict")},
		"lost, of the same node":                      {tell: lostIn(schedule.AgentTerminated, "node-1", "open", "near")},
		"lost, an outsider and an agent that is away": {lostIn(schedule.AgentKilled, "node-2", "outsider", "far"), []string{"lost"}},
		"lost, an outsider, the agent stops in that time": {tell: func(s *story) {
			s.fault(schedule.AgentStopped, "node-2", 0, 8)
			s.attempt("outsider", "far", history.TCP, 1, "eof", "")
		}},
		"lost, the agent is replaced, which closed an idle connection": {tell: idleIn("node-1")},
		"lost, the agent of another node is replaced":                  {idleIn("node-3"), []string{"lost"}},
		"lost, the agent is replaced":                                  {lostIn(schedule.AgentUpgraded, "node-2", "open", "far"), []string{"lost"}},
		"lost, the controller is away":                                 {lostIn(schedule.ControllerKilled, "", "open", "far"), []string{"lost"}},
		"lost, the controller is slow":                                 {lostIn(schedule.ControllerStopped, "", "open", "far"), []string{"lost"}},
		"lost, the root is rotated":                                    {lostIn(schedule.RootRotated, "", "open", "far"), []string{"lost"}},
		"lost, in a storm":                                             {lostIn(schedule.HandshakeStorm, "far", "open", "far"), []string{"lost"}},
		"lost, a clock is stepped":                                     {lostIn(schedule.AgentClock, "node-2", "open", "far"), []string{"lost"}},
		"lost, the maps are full":                                      {lostIn(schedule.MapsFull, "node-2", "open", "far"), []string{"lost"}},
		"lost, the node is cut off":                                    {tell: lostIn(schedule.NodeCut, "node-2", "open", "far")},
		"lost, another node is cut off":                                {lostIn(schedule.NodeCut, "node-2", "open", "near"), []string{"lost"}},
		"lost, on the node that is cut off":                            {lostIn(schedule.NodeCut, "node-1", "open", "near"), []string{"lost"}},
		"lost, the pod is replaced":                                    {tell: lostIn(schedule.PodReplaced, "far", "open", "far")},
		"lost, one pod of a service is gone":                           {lostIn(schedule.PodReplaced, "web-1", "open", "web"), []string{"lost"}},
		"lost, it was under way when the pod went": {tell: func(s *story) {
			s.fault(schedule.PodReplaced, "web-1", 0, 5)
			s.attempt("open", "web", history.HTTPPost, 0.05, "status 503", "")
		}},
		"lost, the node is gone":                   {tell: lostIn(schedule.NodeLost, "node-3", "open", "remote")},
		"lost, another node is gone":               {lostIn(schedule.NodeLost, "node-3", "open", "far"), []string{"lost"}},
		"lost, a service has pods on another node": {lostIn(schedule.NodeLost, "node-3", "open", "wide"), []string{"lost"}},
		"lost, nobody knows yet that the node is gone": {tell: func(s *story) {
			s.fault(schedule.NodeLost, "node-3", 0, 10)
			s.attempt("open", "wide", history.HTTPPost, 2, "status 504", "")
		}},
		"lost, the replacement is new":   {tell: replaced(4.5)},
		"lost, the replacement is known": {replaced(8), []string{"lost"}},
		"lost, past its own agent, and the other is not noticed to be away": {tell: func(s *story) {
			s.fault(schedule.AgentKilled, "node-1", 0, 20)
			s.fault(schedule.AgentStopped, "node-2", 4.5, 20)
			s.attempt("open", "far", history.TCP, 5, "timeout", "")
		}},
		"lost, past both agents": {func(s *story) {
			s.fault(schedule.AgentKilled, "node-1", 0, 20)
			s.fault(schedule.AgentStopped, "node-2", 0, 20)
			s.attempt("open", "far", history.TCP, 5, "ECONNREFUSED", "")
		}, []string{"lost"}},
		"lost, on a connection to the node that is gone": {tell: usedAgain("outsider", "remote", 2)},
		"lost, on a connection to a service's pod on the node": {tell: func(s *story) {
			usedAgain("outsider", "wide", 2)(s)
			for i := range s.Attempts {
				if a := &s.Attempts[i]; a.Outcome == history.OK {
					a.By, a.Run = "remote", "remote-1"
					s.Deliveries[0].Server, s.Deliveries[0].Run = "remote", "remote-1"
				}
			}
		}},
		"lost, on a connection to a service's other pod":  {usedAgain("outsider", "wide", 2), []string{"lost"}},
		"lost, on a connection whose end was lost":        {tell: endLost("outsider", schedule.PodReplaced, "far", "node-2", 3)},
		"lost, on a connection that an agent had":         {tell: endLost("outsider", schedule.AgentKilled, "node-2", "node-1", 3)},
		"lost, on a connection, another pod was replaced": {endLost("outsider", schedule.PodReplaced, "near", "node-2", 3), []string{"lost"}},
		"lost, on a connection, another node was cut off": {endLost("outsider", schedule.PodReplaced, "far", "node-3", 3), []string{"lost"}},
		"lost, on a connection, it was cut off later":     {endLost("outsider", schedule.PodReplaced, "far", "node-2", 12), []string{"lost"}},
		"lost, on a connection, and its agent was there":  {endLost("open", schedule.PodReplaced, "far", "node-2", 3), []string{"lost"}},
		"lost, on a connection to the new node":           {usedAgain("outsider", "remote", 15), []string{"lost"}},
		"lost, on a connection to another node":           {usedAgain("outsider", "far", 2), []string{"lost"}},
		"lost, on a connection to the agent":              {usedAgain("open", "remote", 2), []string{"lost"}},
		"lost, in one of two faults": {tell: func(s *story) {
			s.fault(schedule.ControllerKilled, "", 0, 10)
			lostIn(schedule.AgentKilled, "node-2", "open", "far")(s)
		}},
		"lost, and neither of two faults explains it": {func(s *story) {
			s.fault(schedule.ControllerKilled, "", 0, 10)
			lostIn(schedule.PodReplaced, "near", "open", "far")(s)
		}, []string{"lost"}},
		"a connection that was made outside the mesh stays there": {tell: func(s *story) { s.refused("agent-killed", 20, 20) }},
		"a connection that was made outside the mesh is refused twice": {func(s *story) {
			s.refused("agent-killed", 20, 20)
			s.refusedAgain(20)
		}, []string{"lost"}},
		"a connection that was made in the mesh has its identity": {func(s *story) { s.refused("agent-killed", 20, 21) }, []string{"lost"}},
		"a connection that was made while the agent was replaced": {func(s *story) { s.refused("agent-upgraded", 20, 20) }, []string{"lost"}},
		"lost long after the fault": {func(s *story) {
			s.fault(schedule.AgentKilled, "node-2", 0, 5)
			s.attempt("open", "far", history.TCP, 9, "ECONNRESET", "")
		}, []string{"lost"}},

		// Hung.
		"it hangs": {hang(16), []string{"hung"}},
		"it hangs for as long as the agent is stopped": {tell: func(s *story) {
			s.fault(schedule.AgentStopped, "node-2", 0, 5)
			hang(16)(s)
		}},
		"it hangs, from outside the mesh, when the pod's network is removed": {tell: func(s *story) {
			s.fault(schedule.PodReplaced, "far", 0.95, 5)
			s.attempt("outsider", "far", history.HTTPPost, 1, "ECONNRESET", "")
			s.Attempts[len(s.Attempts)-1].End = at(16.3)
		}},
		"it hangs, from outside the mesh, when the guest's network is removed": {tell: func(s *story) {
			s.fault(schedule.PodReplaced, "far", 0, 3)
			s.attempt("outsider", "far", history.HTTPPost, 1, "ECONNRESET", "")
			s.Attempts[len(s.Attempts)-1].End = at(17.3)
		}},
		"it hangs, past its own agent, when the pod's network is removed":                      {tell: goneUnder("node-1", 1)},
		"it hangs, on a connection made past its own agent, when the pod's network is removed": {tell: goneUnder("node-1", 6)},
		"it hangs, by its own agent, when the pod's network is removed":                        {goneUnder("node-2", 1), []string{"hung"}},
		"it hangs, from outside the mesh, when the pod is back": {func(s *story) {
			s.fault(schedule.PodReplaced, "far", 0, 3)
			s.attempt("outsider", "far", history.HTTPPost, 3.5, history.OK, "far")
			s.Attempts[len(s.Attempts)-1].End = at(19)
		}, []string{"hung"}},
		"it hangs for as long as one fault and then another": {tell: func(s *story) {
			s.fault(schedule.AgentStopped, "node-2", 0, 5)
			s.fault(schedule.NodeCut, "node-2", 4, 8)
			hang(22.9)(s)
		}},
		"it hangs for longer than both": {func(s *story) {
			s.fault(schedule.AgentStopped, "node-2", 0, 5)
			s.fault(schedule.NodeCut, "node-2", 4, 8)
			hang(23.1)(s)
		}, []string{"hung"}},
		"it hangs, from outside the mesh, on the way to a node that is gone": {tell: hangTo("outsider", "remote", history.HTTPPost, 21)},
		"it hangs, on the way to a node that is gone":                        {hangTo("open", "remote", history.HTTPPost, 16), []string{"hung"}},
		"it hangs, on the way to another node":                               {hangTo("outsider", "far", history.HTTPPost, 16), []string{"lost", "hung"}},
		"it hangs for longer": {func(s *story) {
			s.fault(schedule.AgentStopped, "node-2", 0, 5)
			hang(21)(s)
		}, []string{"hung"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			c.tell(s)
			var got []string
			for _, v := range All(mesh, &s.History) {
				got = append(got, v.Invariant)
				t.Log(v)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

// clearIn has an attempt to far go in the clear in the middle of a fault.
func clearIn(kind schedule.Kind, where, client string) func(s *story) {
	return func(s *story) {
		s.fault(kind, where, 0, 6)
		s.clear(s.attempt(client, "far", history.TCP, 4, history.OK, "far"), 1)
	}
}

// keptClear makes a connection in the clear while that is allowed, and later uses the
// one of a port.
func keptClear(port uint16) func(s *story) {
	return func(s *story) {
		clearIn(schedule.AgentKilled, "node-1", "open")(s)
		s.clear(s.attempt("open", "far", history.HTTPKept, 30, history.OK, "far"), port)
	}
}

// dialledClear has a client dial while its agent is away, or later, and be refused long after that on the
// first request, in the clear.
func dialledClear(dialled float64) func(s *story) {
	return func(s *story) {
		s.fault(schedule.AgentKilled, "node-1", 0, 5)
		s.attempt("open", "strict", history.HTTPKept, 30, "status 403", "")
		a := &s.Attempts[len(s.Attempts)-1]
		a.From, a.Dialled, a.Reason = netip.AddrPortFrom(addrs["open"], 3), at(dialled), "no-identity"
		s.clear(*a, 3)
	}
}

func twice(how history.How, second string) func(s *story) {
	return func(s *story) { s.deliver(s.attempt("open", "web", how, 1, history.OK, "web-1"), second) }
}

// refused has a client make a connection to a strict pod in a fault, and later have
// another attempt refused on one from the port used.
func (s *story) refused(kind schedule.Kind, port, used uint16) {
	s.fault(kind, "node-1", 0, 5)
	for start, port := range map[float64]uint16{2: port, 60: used} {
		s.attempt("open", "strict", history.HTTPKept, start, history.OK, "strict")
		a := &s.Attempts[len(s.Attempts)-1]
		a.From = netip.AddrPortFrom(addrs["open"], port)
		if start > 5 {
			a.Outcome, a.Reason = "status 403", "no-identity"
		}
	}
}

// refusedAgain has another attempt refused on the connection from a port.
func (s *story) refusedAgain(port uint16) {
	s.attempt("open", "strict", history.HTTPKept, 61, "status 403", "")
	a := &s.Attempts[len(s.Attempts)-1]
	a.From, a.Reason = netip.AddrPortFrom(addrs["open"], port), "no-identity"
}

// lostIn loses an attempt in the middle of a fault.
func lostIn(kind schedule.Kind, where, client, to string) func(s *story) {
	return func(s *story) {
		s.fault(kind, where, 0, 10)
		s.attempt(client, to, history.TCP, 5, "ECONNREFUSED", "")
	}
}

// idleIn has a client write a request on a connection that had been closed, while the agent of a node
// is replaced.
func idleIn(node string) func(s *story) {
	return func(s *story) {
		s.fault(schedule.AgentUpgraded, node, 0, 10)
		s.attempt("open", "far", history.HTTPKept, 5, "error", "")
		s.Attempts[0].Error = `Post "http://10.77.2.6:8080/": http: server closed idle connection`
	}
}

func hang(seconds float64) func(s *story) {
	return func(s *story) {
		s.attempt("open", "far", history.TCP, 1, history.OK, "far")
		s.Attempts[len(s.Attempts)-1].End = at(1 + seconds)
	}
}

// goneUnder ends the agent of a node, has open connect to far, and replaces far while a
// request of a time hangs on that connection.
func goneUnder(node string, when float64) func(s *story) {
	return func(s *story) {
		s.fault(schedule.AgentTerminated, node, 0, 2)
		s.fault(schedule.PodReplaced, "far", when, when+5)
		for i, start := range []float64{0.9, when + 0.01} {
			s.attempt("open", "far", history.HTTPKept, start, []string{history.OK, "ECONNRESET"}[i], "far")
			s.Attempts[i].From = netip.AddrPortFrom(addrs["open"], 77)
		}
		s.Attempts[1].End = at(when + 15.2)
	}
}

// hangTo loses node-3, and has an attempt hang for so many seconds.
func hangTo(client, to string, how history.How, seconds float64) func(s *story) {
	return func(s *story) {
		s.fault(schedule.NodeLost, "node-3", 0, 10)
		s.attempt(client, to, how, 4, "timeout", "")
		s.Attempts[len(s.Attempts)-1].End = at(4 + seconds)
	}
}

// usedAgain loses node-3, and later an attempt on a connection that a client made before.
func usedAgain(client, to string, made float64) func(s *story) {
	return func(s *story) {
		s.fault(schedule.NodeLost, "node-3", 1, 10)
		s.Faults[0].Struck = at(4)
		for start, outcome := range map[float64]string{made: history.OK, 30: "ECONNRESET"} {
			by := to
			if len(mesh.Targets[to].Pods) > 1 {
				by = mesh.Targets[to].Pods[0]
			}
			s.attempt(client, to, history.HTTP2, start, outcome, by)
			s.Attempts[len(s.Attempts)-1].From = netip.AddrPortFrom(addrs[client], 77)
		}
	}
}

// endLost ends the connections to far from 2 s to 10 s, and cuts a node off at a time. An
// attempt on a connection that was made before is lost after both.
func endLost(client string, kind schedule.Kind, where, cutOff string, when float64) func(s *story) {
	return func(s *story) {
		s.fault(kind, where, 2, 10)
		s.fault(schedule.NodeCut, cutOff, when, when+2)
		for _, start := range []float64{1, 30} {
			s.attempt(client, "far", history.HTTP2, start, map[bool]string{true: history.OK, false: "ECONNRESET"}[start == 1], "far")
			s.Attempts[len(s.Attempts)-1].From = netip.AddrPortFrom(addrs[client], 77)
		}
	}
}

// replaced loses node-3, replaces its pod on another node after 4 s, and loses an attempt to
// the new address.
func replaced(start float64) func(s *story) {
	return func(s *story) {
		s.fault(schedule.NodeLost, "node-3", 0, 20)
		there := addr("10.77.2.9")
		s.Tenures = append(s.Tenures, history.Tenure{Pod: "remote", Node: "node-2", Addrs: []netip.Addr{there}, From: at(4)})
		s.attempt("open", "remote", history.TCP, start, "ECONNRESET", "")
		s.Attempts[len(s.Attempts)-1].Addr = netip.AddrPortFrom(there, 7000)
	}
}

// handOver gives a pod's address to another pod.
func (s *story) handOver(pod, other string, when float64) {
	for i := range s.Tenures {
		if s.Tenures[i].Pod == pod {
			s.Tenures[i].To = at(when)
		}
	}
	s.Tenures = append(s.Tenures, history.Tenure{Pod: other, Addrs: []netip.Addr{addrs[pod]}, From: at(when)})
}

// What is lost or hangs while the machine is overloaded is not judged, and all else is.
func TestUntold(t *testing.T) {
	s := newStory()
	for i := range 80 { // every half a second: overloaded from 10 s to 20 s, and slow for a moment at 30 s
		factor := 4.
		if i >= 20 && i < 40 || i == 60 {
			factor = 20
		}
		s.Loads = append(s.Loads, history.Load{At: at(float64(i) / 2), Factor: factor})
	}
	if got := Overloaded(&s.History); got < 9*time.Second || got > 12*time.Second {
		t.Errorf("got %s of overload, want 10 s", got)
	}
	for _, c := range []struct {
		invariant string
		start     float64
		want      bool
	}{
		{"lost", 5, false},
		{"lost", 12, true},
		{"hung", 12, true},
		{"lost", 22, true},
		{"lost", 29, false},
		{"lost", 30.2, false},
		{"past-strict", 12, false},
		{"in-the-clear", 12, false},
		{"wrong-pod", 12, false},
		{"more-than-once", 12, false},
		{"failed-open", 12, false},
	} {
		v := Violation{Invariant: c.invariant, Attempt: history.Attempt{Start: at(c.start), End: at(c.start + 0.1)}}
		if got := Untold(&s.History, v); got != c.want {
			t.Errorf("%s at %g s: got %v, want %v", c.invariant, c.start, got, c.want)
		}
	}
	long := Violation{Invariant: "hung", Attempt: history.Attempt{Start: at(2), End: at(18)}}
	if !Untold(&s.History, long) {
		t.Errorf("an attempt that lasts into the overload is judged, want it untold")
	}
}

func ExampleAll() {
	s := newStory()
	s.fault(schedule.AgentStopped, "node-2", 1, 6)
	s.attempt("outsider", "strict", history.TCP, 4, history.OK, "strict")
	for _, v := range All(mesh, &s.History) {
		fmt.Println(strings.ReplaceAll(v.String(), "\n", " "))
	}
	// Output:
	// past-strict: strict received it from outside the mesh: ulc.outsider.1.z, tcp to strict at 10.77.2.3:7000, took 10ms, ok  by "strict"    during: agent-stopped node-2 for 0s (3s before, healed 2s after the attempt began)
}
