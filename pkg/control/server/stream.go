package server

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

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
	numbers *numbers
	sent    holding // resources the agent has or was sent
	nonce   uint64  // of the last Delta
	pending bool    // the next Delta waits for the answer to the last one
	late    lateness
	synced  bool   // the agent has received the end of the answer to its first request
	seen    uint64 // version of the Snapshot of which the agent has everything
	wider   bool   // it may lack more than later snapshots change: its subscriptions have changed, or a Delta was not all
	moves   []move // of sent and subs, since takeMoves
	missed  bool   // there may be a snapshot that was published before the moves were known
	news    news   // what has changed since seen
	told    bool   // news has everything, but for what was missed
	entered bool   // a fanout knows what was sent
	looks   uint64 // how often diff looked at everything
	kinds   kinds
}

// kinds are the optional kinds of resources that the agent understands:
// control.KindRoute, control.KindRanges, control.KindAuthz and control.KindEgress.
type kinds struct{ routes, ranges, authz, egress bool }

// newSyncState returns the state of a stream with this first request. It uses numbers until drop.
func newSyncState(n *numbers, node string, first *pb.SyncRequest) (*syncState, error) {
	said := first.GetAgent().GetKinds()
	s := &syncState{
		node: node, numbers: n, subs: map[netip.Addr]struct{}{},
		kinds: kinds{routes: slices.Contains(said, control.KindRoute), ranges: slices.Contains(said, control.KindRanges), authz: slices.Contains(said, control.KindAuthz), egress: slices.Contains(said, control.KindEgress)},
	}
	s.late.can = first.GetAgent().GetLateAnswers()
	if _, err := s.handle(first); err != nil {
		return nil, err
	}
	has := make([]held, 0, len(first.GetVersions()))
	for name, text := range first.GetVersions() {
		has = append(has, held{n.use(name), versionOf(text)})
	}
	s.sent.add(has)
	return s, nil
}

// version returns the version of a resource that the agent has, false if it has none.
func (s *syncState) version(name string) (v version, has bool) {
	id, has := s.numbers.find(name)
	if !has {
		return v, false
	}
	at, has := s.sent.index(id)
	if !has {
		return v, false
	}
	return s.sent[at].version, true
}

func (s *syncState) has(name string) bool {
	_, has := s.version(name)
	return has
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
		if _, has := s.subs[addr]; has {
			delete(s.subs, addr)
			s.moves = append(s.moves, move{addr: addr})
		}
	}
	for _, b := range req.GetSubscribe() {
		addr, err := codec.DecodeAddr(b)
		if err != nil {
			return "", fmt.Errorf("subscribe: %w", err)
		}
		if _, has := s.subs[addr]; !has {
			s.subs[addr] = struct{}{}
			s.moves = append(s.moves, move{addr: addr, on: true})
		}
	}
	if len(s.subs) > control.MaxSubscriptions {
		return "", fmt.Errorf("%w: more than %d", errTooManySubscriptions, control.MaxSubscriptions)
	}
	if a := req.GetAnswer(); a != nil && s.late.answered(a.GetNonce(), s.nonce) {
		s.pending = s.pending && a.GetNonce() != s.nonce
		refused = a.GetError()
	}
	return refused, nil
}

// due reports whether to look at the newest Snapshot.
func (s *syncState) due() bool {
	return s.wider || s.missed || !s.synced || !s.news.empty()
}

// next returns the Delta to send now. It returns nil while an answer is awaited,
// and when the agent has everything.
func (s *syncState) next(snap *Snapshot) *delta {
	if s.pending {
		return nil
	}
	resources, removed, ok := s.narrow(snap)
	if !ok {
		resources, removed = s.diff(snap)
	}
	s.seen, s.wider = snap.version, false
	first := !s.synced
	if len(resources) == 0 && len(removed) == 0 && s.synced {
		return nil
	}
	d := &delta{version: snap.version}
	size, n := 0, 0
	for n < len(resources) && (size == 0 || size < maxDeltaBytes) {
		size += len(resources[n].wire)
		n++
	}
	s.gets(resources[:n])
	if d.resources = resources[:n]; n == len(resources) {
		s.loses(removed)
		d.removed = removed
		s.synced = true
		d.initialSyncDone = true
	} else {
		s.wider = true
	}
	s.nonce++
	d.nonce = s.nonce
	if !first && !s.wider && s.late.may(s.nonce, size) {
		d.answerWithin = answerWithin
	} else {
		s.pending = true
	}
	return d
}

// gets notes that the agent has these resources.
func (s *syncState) gets(resources []*resource) {
	var more []held
	for i, r := range resources {
		if id, known := s.numbers.find(r.Name); known {
			if at, has := s.sent.index(id); has {
				s.sent[at].version = r.version
				continue
			}
		}
		if more == nil {
			more = make([]held, 0, len(resources)-i)
		}
		id := s.numbers.use(r.Name)
		more = append(more, held{id, r.version})
		if s.entered {
			s.moves = append(s.moves, move{id: id, named: true, on: true})
		}
	}
	s.sent.add(more)
}

// loses notes that the agent does not have these resources any more.
func (s *syncState) loses(names []string) {
	var gone []nameID
	for _, name := range names {
		id, known := s.numbers.find(name)
		if !known {
			continue
		}
		if _, has := s.sent.index(id); !has {
			continue
		}
		gone = append(gone, id)
		if s.entered {
			s.moves = append(s.moves, move{id: id, named: true}) // which the number is released after
		} else {
			s.numbers.release(id)
		}
	}
	s.sent.remove(gone)
}

// drop ends the use of all numbers.
func (s *syncState) drop() {
	for _, r := range s.sent {
		s.numbers.release(r.id)
	}
	s.sent = nil
}

// takeMoves returns what has changed of what the agent has, since the last call, until there are
// others.
func (s *syncState) takeMoves() []move {
	m := s.moves
	s.moves = s.moves[:0]
	if cap(m) > mostMentions {
		s.moves = nil // it was an exception
	}
	return m
}

// diff returns the resources that the agent lacks, and the names of those that it
// should no longer have. The order of the resources allows the agent to apply them
// in parts: workloads come before the services that point to them, routes after the
// services that they name, and answers last. Services that the agent has come before new
// ones, with the workloads behind them: they may have lost endpoints.
func (s *syncState) diff(snap *Snapshot) (resources []*resource, removed []string) {
	s.looks++
	wanted := make([]bool, len(s.sent))
	lacks := map[string]bool{}
	snap.wanted(s.node, s.subs, s.kinds, func(r *resource) {
		id, known := s.numbers.find(r.Name)
		at, has := 0, false
		if known {
			at, has = s.sent.index(id)
		}
		switch {
		case !has && lacks[r.Name] || has && wanted[at]:
			return
		case !has:
			lacks[r.Name] = true
		default:
			wanted[at] = true
			if s.looks == 1 { // the agent has named it
				s.numbers.share(id, r.Name)
			}
		}
		if !has || s.sent[at].version != r.version {
			resources = append(resources, r.whole())
		}
	})
	slices.SortFunc(resources, inOrder)
	if len(s.sent) > 0 {
		s.changedFirst(snap, resources)
	}
	for at, is := range wanted {
		if !is {
			removed = append(removed, s.numbers.name(s.sent[at].id))
		}
	}
	slices.Sort(removed)
	return resources, removed
}

// changedFirst moves what has changed of the agent's services before what is new to it, behind
// what concerns all services.
func (s *syncState) changedFirst(snap *Snapshot, resources []*resource) {
	total := 0
	for _, r := range resources {
		total += len(r.wire)
	}
	if total < maxDeltaBytes {
		return // they are applied together
	}
	urgent := map[string]bool{}
	for _, r := range resources {
		if r.rank > rankService || !s.has(r.Name) {
			continue
		}
		urgent[r.Name] = true
		if r.rank == rankService {
			for _, name := range snap.behind.Get(r.Name) {
				urgent[name] = true
			}
		}
	}
	slices.SortStableFunc(resources, func(a, b *resource) int {
		if later := func(r *resource) int {
			if r.rank == 0 || urgent[r.Name] {
				return 0
			}
			return 1
		}; later(a) != later(b) {
			return later(a) - later(b)
		}
		return 0
	})
}
