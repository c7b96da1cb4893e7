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

// Observer receives the reports of a Server's agents. The node is authenticated.
// The statements about pods are only claims of its agent: the observer checks
// whether a UID belongs to a pod on that node. The Server makes the calls for all
// nodes one at a time and in order. They must not block.
type Observer interface {
	// AgentConnected is called for each new stream of a node. An older stream may
	// still be open, for example when the node's certificate was renewed.
	AgentConnected(a AgentInfo)
	// PodsReported gives the pods that changed. The first call after AgentConnected
	// gives all labelled pods of the node.
	PodsReported(node string, pods []control.PodStatus)
	// AgentDisconnected is called when the last stream of a node has ended.
	AgentDisconnected(node string)
}

// Limits in bytes for an agent's report on one pod. The reason is shown to users.
const (
	maxReason = 512
	maxUID    = 253
)

// decodeReports decodes an agent's report on its pods and cuts it to the limits.
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

// connected reports a new stream to the observer, and joins it.
func (s *Server) connected(st *syncState, first *pb.SyncRequest) (f *follower, leave func()) {
	s.observing.Lock()
	defer s.observing.Unlock()
	node := st.node
	f = s.streams.join(node)
	if o := s.opt.Observer; o != nil {
		a := first.GetAgent()
		o.AgentConnected(AgentInfo{Node: node, Version: shown(a.GetVersion(), maxShownName)})
		o.PodsReported(node, decodeReports(first.GetPods()))
	}
	return f, func() {
		s.observing.Lock()
		defer s.observing.Unlock()
		if last := s.streams.leave(f, st); last && s.opt.Observer != nil {
			s.opt.Observer.AgentDisconnected(node)
		}
	}
}

// reported passes the pod statuses of a later request to the observer.
func (s *Server) reported(node string, req *pb.SyncRequest) {
	if len(req.GetPods()) == 0 || s.opt.Observer == nil {
		return
	}
	s.observing.Lock()
	defer s.observing.Unlock()
	s.opt.Observer.PodsReported(node, decodeReports(req.GetPods()))
}

// maxStale bounds the sources of one report.
const maxStale = 64

func (s *Server) staleKeys(sources []string) {
	if s.opt.StaleKeys == nil {
		return
	}
	for _, source := range sources[:min(len(sources), maxStale)] {
		s.opt.StaleKeys(source)
	}
}
