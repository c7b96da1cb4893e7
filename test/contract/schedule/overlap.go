package schedule

import "slices"

// Faults that overlap are nested: the one that strikes first is healed last. Some kinds
// need what others take away, for striking or for healing, and lie around these: an agent
// gets ready only while there is a controller. depth orders them so.
func (k Kind) depth() int {
	switch k {
	case RootRotated: // is healed when all agents have the root
		return 0
	case AgentKilled, AgentTerminated, AgentUpgraded, NodeLost: // an agent starts
		return 1
	case NodeCut, ControllerKilled:
		return 2
	case PodReplaced, PodUnlabelled: // the lab waits for a controller that is there
		return 3
	case ControllerStopped:
		return 5
	}
	return 4
}

// ofAgent are the kinds that strike the process of an agent.
var ofAgent = []Kind{AgentKilled, AgentStopped, AgentTerminated, AgentUpgraded, AgentStarved, AgentClock}

// ofController are the kinds that strike the process of the controller.
var ofController = []Kind{ControllerKilled, ControllerStopped, ControllerSlowed, ControllerClock}

// excludes reports whether two faults cannot overlap, because they strike the same process
// or pod, or because one of them cannot strike or be healed during the other.
func excludes(a, b Fault) bool {
	both := func(kinds []Kind) bool { return slices.Contains(kinds, a.Kind) && slices.Contains(kinds, b.Kind) }
	either := func(x, y Kind) bool { return a.Kind == x && b.Kind == y || a.Kind == y && b.Kind == x }
	switch {
	case a.Kind == b.Kind:
		return true
	case both(ofController):
		return true
	case both(ofAgent) && a.Node == b.Node:
		return true
	case both([]Kind{PodReplaced, PodUnlabelled}) && a.Pod == b.Pod:
		return true
	case either(AgentUpgraded, NodeCut) && a.Node == b.Node: // the successor asks the controller
		return true
	case either(AgentUpgraded, MapsFull) && a.Node == b.Node, either(AgentKilled, MapsFull) && a.Node == b.Node,
		either(AgentTerminated, MapsFull) && a.Node == b.Node: // an agent that starts makes entries
		return true
	}
	return false
}
