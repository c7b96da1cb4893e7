package server

import (
	"maps"
	"slices"
)

// narrow returns what diff returns, in a time that follows what has changed and not what the
// agent has. ok is false where it cannot: then diff does it. The agent has everything of the
// Snapshot with the version s.seen.
//
// It can where only resources have changed that the agent has, and which workloads are behind
// services that it has. Whatever else the agent may be to have now, or not any more, follows
// from its pods, its subscriptions, routes and what concerns all agents.
func (s *syncState) narrow(snap *Snapshot) (resources []*resource, removed []string, ok bool) {
	changes, known := snap.since(s.seen)
	if !known || !s.synced || s.wider || !s.kinds.authz { // an agent without policies gets its pods in another form: see own
		return nil, nil, false
	}
	for i := range changes {
		if s.widely(snap, &changes[i]) {
			return nil, nil, false
		}
	}
	if !s.concerned(changes) {
		return nil, nil, true
	}
	lacks := map[string]*resource{}
	gone := map[string]bool{}
	look := func(name string) {
		switch r := snap.byName.Get(name); {
		case r == nil:
			if _, has := s.sent[name]; has {
				gone[name] = true
			}
		case s.sent[name] != r.Version:
			lacks[name] = r
		}
	}
	for i := range changes {
		for _, name := range changes[i].names {
			if _, has := s.sent[name]; has {
				look(name)
			}
		}
		for _, r := range changes[i].relinked {
			if _, has := s.sent[r.service]; !has {
				continue
			}
			for _, name := range snap.behind.Get(r.service) {
				look(name)
			}
			for _, name := range r.gone {
				if _, has := s.sent[name]; has && !s.needs(snap, name) {
					gone[name] = true
				}
			}
		}
	}
	for name := range gone {
		delete(lacks, name)
	}
	resources = slices.Collect(maps.Values(lacks))
	slices.SortFunc(resources, inOrder)
	return resources, slices.Sorted(maps.Keys(gone)), true
}

// concerned reports whether the agent has something that has changed. It allocates nothing:
// most changes do not concern most agents.
func (s *syncState) concerned(changes []touched) bool {
	for i := range changes {
		for _, name := range changes[i].names {
			if _, has := s.sent[name]; has {
				return true
			}
		}
		for j := range changes[i].relinked {
			if _, has := s.sent[changes[i].relinked[j].service]; has {
				return true
			}
		}
	}
	return false
}

// widely reports whether a change may concern the agent in a way that only diff sees.
func (s *syncState) widely(snap *Snapshot, t *touched) bool {
	if t.all || t.egress && s.kinds.egress || slices.Contains(t.nodes, s.node) {
		return true
	}
	for _, name := range t.rerouted {
		if _, has := s.sent[name]; has {
			return true
		}
	}
	for _, a := range t.held {
		if _, has := s.subs[a]; has {
			return true
		}
	}
	for _, a := range t.backed {
		if _, has := s.subs[a]; has && slices.ContainsFunc(snap.byNode.Get(s.node), isIngress) {
			return true
		}
	}
	if t.ported {
		for a := range s.subs {
			if snap.nodes[a] {
				return true
			}
		}
	}
	return false
}

// needs reports whether the agent is to have a workload: one of its node, one at an address
// that it has subscribed to, or one behind a service that it has.
func (s *syncState) needs(snap *Snapshot, name string) bool {
	w := snap.byName.Get(name)
	if w == nil || w.rank != rankWorkload || w.node == s.node {
		return w != nil && w.rank == rankWorkload
	}
	for _, addr := range w.addrs {
		addr = addr.Unmap()
		if _, has := s.subs[addr]; has && snap.at(addr) == name {
			return true
		}
		for _, service := range snap.backing.Get(addr) {
			_, has := s.sent[service]
			if _, behind := slices.BinarySearch(snap.behind.Get(service), name); has && behind {
				return true
			}
		}
	}
	return false
}
