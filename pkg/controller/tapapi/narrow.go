package tapapi

import (
	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/controller/fanin"
)

// unnamedSilent stands for all warnings about nodes that the caller may not know of. That
// something is missing has to be said, because it changes the figures of the caller's own
// namespace; which nodes, and how many, not.
const unnamedSilent = "what agents on the nodes of other namespaces' pods say of calls with them is missing in part"

// mayKnow returns whether the caller of an answer about a namespace may know of a node: one
// with pods of that namespace, whose specs name it. It returns nil for all namespaces.
func (s *asker) mayKnow(namespace string) func(node string) bool {
	if namespace == "" {
		return nil
	}
	nodes := map[string]bool{}
	for _, w := range s.opt.Cluster.Workloads() {
		if w.Namespace == namespace {
			nodes[w.Node] = true
		}
	}
	return func(node string) bool { return nodes[node] }
}

// countKnown counts the nodes that the caller may know of.
func countKnown(nodes []fanin.Node, may func(string) bool) (n int) {
	for _, node := range nodes {
		if may == nil || may(node.Name) {
			n++
		}
	}
	return n
}

// hideNodes removes the nodes that the caller may not know of from the events of a tap. may
// is nil if the caller may know of all.
func hideNodes(batch *agentv1.TapEvents, may func(string) bool) {
	if may == nil {
		return
	}
	for _, e := range batch.GetEvents() {
		for _, w := range []*agentv1.Workload{e.GetSource().GetWorkload(), e.GetDestination().GetWorkload()} {
			if w != nil && !may(w.GetNode()) {
				w.Node = ""
			}
		}
	}
}
