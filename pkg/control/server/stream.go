package server

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
)

// maxDeltaBytes is the approximate maximum size of one Delta. gRPC refuses 4 MiB.
const maxDeltaBytes = 1 << 20

var errTooManySubscriptions = errors.New("too many subscriptions")

// syncState is the server's state of one stream: the agent's subscriptions, and the
// resources that it has. It does no I/O.
type syncState struct {
	node    string
	subs    map[netip.Addr]struct{}
	sent    map[string]string // resources the agent has or was sent: name to version
	nonce   uint64            // of the last Delta
	pending bool              // the last Delta is not answered yet
	synced  bool              // the agent has received the end of the answer to its first request
	seen    uint64            // version of the Snapshot of which the agent has everything
	wider   bool              // it may lack more than later snapshots change: its subscriptions have changed, or a Delta was not all
	looks   uint64            // how often diff looked at everything
	kinds   kinds
}

// kinds are the optional kinds of resources that the agent understands:
// control.KindRoute, control.KindRanges, control.KindAuthz and control.KindEgress.
type kinds struct{ routes, ranges, authz, egress bool }

func newSyncState(node string, first *pb.SyncRequest) (*syncState, error) {
	said := first.GetAgent().GetKinds()
	s := &syncState{
		node: node, subs: map[netip.Addr]struct{}{}, sent: maps.Clone(first.GetVersions()),
		kinds: kinds{routes: slices.Contains(said, control.KindRoute), ranges: slices.Contains(said, control.KindRanges), authz: slices.Contains(said, control.KindAuthz), egress: slices.Contains(said, control.KindEgress)},
	}
	if s.sent == nil {
		s.sent = map[string]string{}
	}
	_, err := s.handle(first)
	return s, err
}

// handle applies a request. refused is the agent's error when the request refuses
// the last Delta. That delta still counts as sent, because the agent would refuse
// it again.
func (s *syncState) handle(req *pb.SyncRequest) (refused string, err error) {
	s.wider = s.wider || len(req.GetUnsubscribe())+len(req.GetSubscribe()) > 0
	for _, b := range req.GetUnsubscribe() {
		addr, err := codec.DecodeAddr(b)
		if err != nil {
			return "", fmt.Errorf("unsubscribe: %w", err)
		}
		delete(s.subs, addr)
	}
	for _, b := range req.GetSubscribe() {
		addr, err := codec.DecodeAddr(b)
		if err != nil {
			return "", fmt.Errorf("subscribe: %w", err)
		}
		s.subs[addr] = struct{}{}
	}
	if len(s.subs) > control.MaxSubscriptions {
		return "", fmt.Errorf("%w: more than %d", errTooManySubscriptions, control.MaxSubscriptions)
	}
	if a := req.GetAnswer(); a != nil && s.pending && a.GetNonce() == s.nonce {
		s.pending = false
		refused = a.GetError()
	}
	return refused, nil
}

// next returns the Delta to send now. It returns nil while an answer is awaited,
// and when the agent has everything.
func (s *syncState) next(snap *Snapshot) *pb.Delta {
	if s.pending {
		return nil
	}
	resources, removed, ok := s.narrow(snap)
	if !ok {
		resources, removed = s.diff(snap)
	}
	s.seen, s.wider = snap.version, false
	if len(resources) == 0 && len(removed) == 0 && s.synced {
		return nil
	}
	d := &pb.Delta{Version: snap.version}
	size := 0
	for len(resources) > 0 && (size == 0 || size < maxDeltaBytes) {
		size += proto.Size(resources[0])
		s.sent[resources[0].Name] = resources[0].Version
		d.Resources = append(d.Resources, resources[0])
		resources = resources[1:]
	}
	if len(resources) == 0 {
		for _, name := range removed {
			delete(s.sent, name)
		}
		d.Removed = removed
		s.synced = true
		d.InitialSyncDone = true
	} else {
		s.wider = true
	}
	s.nonce++
	d.Nonce = s.nonce
	s.pending = true
	return d
}

// diff returns the resources that the agent lacks, and the names of those that it
// should no longer have. The order of the resources allows the agent to apply them
// in parts: workloads come before the services that point to them, routes after the
// services that they name, and answers last.
func (s *syncState) diff(snap *Snapshot) (resources []*pb.Resource, removed []string) {
	s.looks++
	wanted := make(map[string]bool, len(s.sent))
	snap.wanted(s.node, s.subs, s.kinds, func(r *pb.Resource) {
		if !wanted[r.Name] {
			wanted[r.Name] = true
			if s.sent[r.Name] != r.Version {
				resources = append(resources, r)
			}
		}
	})
	slices.SortFunc(resources, inOrder)
	for name := range s.sent {
		if !wanted[name] {
			removed = append(removed, name)
		}
	}
	slices.Sort(removed)
	return resources, removed
}

// inOrder orders resources as diff says.
func inOrder(a, b *pb.Resource) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
}

func rank(r *pb.Resource) int {
	switch r.GetContent().(type) {
	case *pb.Resource_Anchors, *pb.Resource_Ranges, *pb.Resource_Authz, *pb.Resource_EgressNetwork:
		return 0
	case *pb.Resource_Workload:
		return 1
	case *pb.Resource_Service:
		return 2
	case *pb.Resource_Route:
		return 3
	}
	return 4
}
