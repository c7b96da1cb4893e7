package client

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
)

// reports holds the newest status of each of the node's pods.
type reports struct {
	wake chan struct{} // receives when there are changes to take

	mu   sync.Mutex
	pods map[string]control.PodStatus // by UID
	sent map[string]control.PodStatus // what was sent on this stream
}

func newReports() *reports {
	return &reports{wake: make(chan struct{}, 1), pods: map[string]control.PodStatus{}}
}

// set replaces the statuses to report.
func (r *reports) set(pods []control.PodStatus) {
	now := make(map[string]control.PodStatus, len(pods))
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
	r.sent = nil
	r.mu.Unlock()
	return r.take()
}

// take returns the changes since the last call of take or all. A pod that the agent
// no longer reports has an empty state.
func (r *reports) take() []*pb.PodStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var changed []control.PodStatus
	for uid, p := range r.pods {
		if sent, ok := r.sent[uid]; !ok || sent != p {
			changed = append(changed, p)
		}
	}
	for uid := range r.sent {
		if _, ok := r.pods[uid]; !ok {
			changed = append(changed, control.PodStatus{UID: uid})
		}
	}
	r.sent = r.pods // set replaces the map and never changes it
	slices.SortFunc(changed, func(a, b control.PodStatus) int { return cmp.Compare(a.UID, b.UID) })
	return codec.EncodePods(changed)
}
