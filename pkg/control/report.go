package control

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	pb "github.com/underlane/underlane/api/control/v1"
)

// AgentInfo says who an agent is.
type AgentInfo struct {
	Node    string
	Version string
}

// PodStatus is what became of a labelled pod at its node.
type PodStatus struct {
	UID     string
	State   string // enrolled, pending, failed or left-out; "" when the pod is not labelled any more, or is gone
	Reason  string // why it is pending, failed or left out
	PreMesh uint32 // connections that were open before it was enrolled, and are not carried
}

// Observer hears from the agents that a Server serves. The node is
// authenticated; what it says of pods is its claim: whether a UID is of a pod
// on that node is the observer's to check. Calls for all nodes are made one at
// a time, in order, and must not block.
type Observer interface {
	// AgentConnected is called for each new stream of a node, also while an
	// older one still is open, as when a node's certificate was renewed.
	AgentConnected(a AgentInfo)
	// PodsReported tells the pods that changed: after AgentConnected all of the
	// node's that are labelled.
	PodsReported(node string, pods []PodStatus)
	// AgentDisconnected is called when the last stream of a node has ended.
	AgentDisconnected(node string)
}

// reports is what a Client has to say of its node's pods: the newest word on
// each counts.
type reports struct {
	wake chan struct{} // receives when there is something to take

	mu   sync.Mutex
	pods map[string]PodStatus // by UID
	told map[string]PodStatus // what the stream's other end was told
}

func newReports() *reports {
	return &reports{wake: make(chan struct{}, 1), pods: map[string]PodStatus{}}
}

// set makes pods what there is to say.
func (r *reports) set(pods []PodStatus) {
	now := make(map[string]PodStatus, len(pods))
	for _, p := range pods {
		now[p.UID] = p
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if maps.Equal(r.pods, now) {
		return
	}
	r.pods = now
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// all returns every pod, for a new stream.
func (r *reports) all() []*pb.PodStatus {
	r.mu.Lock()
	r.told = nil
	r.mu.Unlock()
	return r.take()
}

// take returns what changed since the last take or all. A pod of which nothing
// is to be said any more has no state.
func (r *reports) take() []*pb.PodStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*pb.PodStatus
	for uid, p := range r.pods {
		if told, ok := r.told[uid]; !ok || told != p {
			out = append(out, &pb.PodStatus{Uid: p.UID, State: p.State, Reason: p.Reason, PreMeshConnections: p.PreMesh})
		}
	}
	for uid := range r.told {
		if _, ok := r.pods[uid]; !ok {
			out = append(out, &pb.PodStatus{Uid: uid})
		}
	}
	r.told = r.pods // set replaces the map and never changes it
	slices.SortFunc(out, func(a, b *pb.PodStatus) int { return cmp.Compare(a.Uid, b.Uid) })
	return out
}

// maxReason bounds what an agent may have shown to people for one pod, and maxUID
// the name that it gives the pod.
const (
	maxReason = 512
	maxUID    = 253
)

func decodeReports(list []*pb.PodStatus) []PodStatus {
	out := make([]PodStatus, 0, len(list))
	for _, p := range list {
		out = append(out, PodStatus{
			UID: p.GetUid()[:min(len(p.GetUid()), maxUID)], State: shown(p.GetState(), maxShownName), PreMesh: p.GetPreMeshConnections(),
			Reason: strings.ToValidUTF8(p.GetReason()[:min(len(p.GetReason()), maxReason)], ""),
		})
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

// reported passes on what a later request says of pods.
func (s *Server) reported(node string, req *pb.SyncRequest) {
	if len(req.GetPods()) == 0 || s.opt.Observer == nil {
		return
	}
	s.observing.Lock()
	defer s.observing.Unlock()
	s.opt.Observer.PodsReported(node, decodeReports(req.GetPods()))
}
