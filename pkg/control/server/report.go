package server

import (
	"strings"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
)

// AgentInfo describes an agent.
type AgentInfo struct {
	Node    string
	Version string
}

// Observer is told what the agents of a Server report. The node is
// authenticated. What its agent says of pods is a claim: the observer checks
// whether a UID belongs to a pod on that node. The calls, for all nodes, are
// made one at a time, in order, and must not block.
type Observer interface {
	// AgentConnected is called for each new stream of a node, also while an
	// older one still is open, as when a node's certificate was renewed.
	AgentConnected(a AgentInfo)
	// PodsReported gives the pods that changed; right after AgentConnected it
	// gives all labelled pods of the node.
	PodsReported(node string, pods []control.PodStatus)
	// AgentDisconnected is called when the last stream of a node has ended.
	AgentDisconnected(node string)
}

// Bounds of what an agent says of one pod, in bytes: the reason is shown to
// people.
const (
	maxReason = 512
	maxUID    = 253
)

// decodeReports decodes and bounds what an agent reports of pods.
func decodeReports(list []*pb.PodStatus) []control.PodStatus {
	out := codec.DecodePods(list)
	for i := range out {
		p := &out[i]
		p.UID = p.UID[:min(len(p.UID), maxUID)]
		p.State = shown(p.State, maxShownName)
		p.Reason = strings.ToValidUTF8(p.Reason[:min(len(p.Reason), maxReason)], "")
	}
	return out
}

// connected tells the observer of a new stream, and joins it.
func (s *Server) connected(node string, first *pb.SyncRequest) (published <-chan struct{}, leave func()) {
	s.observing.Lock()
	defer s.observing.Unlock()
	published, forget := s.join(node)
	if o := s.opt.Observer; o != nil {
		a := first.GetAgent()
		o.AgentConnected(AgentInfo{Node: node, Version: shown(a.GetVersion(), maxShownName)})
		o.PodsReported(node, decodeReports(first.GetPods()))
	}
	return published, func() {
		s.observing.Lock()
		defer s.observing.Unlock()
		if last := forget(); last && s.opt.Observer != nil {
			s.opt.Observer.AgentDisconnected(node)
		}
	}
}

// reported tells the observer what a later request says of pods.
func (s *Server) reported(node string, req *pb.SyncRequest) {
	if len(req.GetPods()) == 0 || s.opt.Observer == nil {
		return
	}
	s.observing.Lock()
	defer s.observing.Unlock()
	s.opt.Observer.PodsReported(node, decodeReports(req.GetPods()))
}
