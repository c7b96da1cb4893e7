package server

import "slices"

// narrow returns what diff returns, in a time that follows what has changed for the agent, and not
// what it has. ok is false where it cannot: then diff does it. The agent has everything of the
// Snapshot with the version s.seen, but for what the stream was told since.
//
// It can where only resources have changed that the agent has, and which workloads are behind
// services that it has. Whatever else the agent may be to have now, or not any more, follows
// from its pods, its subscriptions, routes and what concerns all agents.
func (s *syncState) narrow(snap *Snapshot) (resources []*resource, removed []string, ok bool) {
	if !s.synced || s.wider || !s.kinds.authz { // an agent without policies gets its pods in another form: see own
		return nil, nil, false
	}
	if s.widely(snap, s.news.wide) {
		return nil, nil, false
	}
	n := narrowing{syncState: s, snap: snap}
	if !s.told || s.missed {
		changes, known := snap.since(s.seen)
		if !known {
			return nil, nil, false
		}
		for i := range changes {
			if s.concerned(snap, &changes[i]) {
				return nil, nil, false
			}
		}
		for i := range changes {
			n.changed(&changes[i])
		}
	}
	for i := range s.news.mentions {
		n.mentioned(&s.news.mentions[i])
	}
	resources, removed = n.result()
	return resources, removed, true
}

// narrowing collects what an agent lacks, and what it should no longer have. It allocates nothing
// if that is nothing.
type narrowing struct {
	*syncState
	snap  *Snapshot
	lacks []*resource
	gone  []string
}

func (n *narrowing) look(name string) {
	v, has := n.version(name)
	switch r := n.snap.byName.Get(name); {
	case r == nil:
		if has {
			n.gone = append(n.gone, name)
		}
	case !has || v != r.version:
		n.lacks = append(n.lacks, r)
	}
}

func (n *narrowing) mentioned(m *mention) {
	if !n.has(m.name) {
		return
	}
	if !m.relinked {
		n.look(m.name)
		return
	}
	for _, name := range n.snap.behind.Get(m.name) {
		n.look(name)
	}
	for _, name := range m.gone {
		if n.has(name) && !n.needs(n.snap, name) {
			n.gone = append(n.gone, name)
		}
	}
}

// changed is mentioned for all that a publication has changed.
func (n *narrowing) changed(t *touched) {
	for _, names := range [][]string{t.names, t.gained} {
		for _, name := range names {
			n.mentioned(&mention{name: name})
		}
	}
	for i := range t.calm {
		n.mentioned(&mention{name: t.calm[i].name})
	}
	for i := range t.relinked {
		n.mentioned(&mention{name: t.relinked[i].service, relinked: true, gone: t.relinked[i].gone})
	}
}

func (n *narrowing) result() ([]*resource, []string) {
	slices.Sort(n.gone)
	n.gone = slices.Compact(n.gone)
	slices.SortFunc(n.lacks, inOrder)
	n.lacks = slices.Compact(n.lacks)
	if len(n.gone) > 0 {
		n.lacks = slices.DeleteFunc(n.lacks, func(r *resource) bool {
			_, gone := slices.BinarySearch(n.gone, r.Name)
			return gone
		})
	}
	return n.lacks, n.gone
}

// concerned reports whether a publication may concern the agent in a way that only diff sees.
func (s *syncState) concerned(snap *Snapshot, t *touched) bool {
	if t.all || slices.Contains(t.nodes, s.node) {
		return true
	}
	for _, name := range t.rerouted {
		if s.has(name) {
			return true
		}
	}
	for _, a := range t.held {
		if _, has := s.subs[a]; has {
			return true
		}
	}
	var w wide
	for _, a := range t.backed {
		if _, has := s.subs[a]; has {
			w |= wideBacked
		}
	}
	if t.ported {
		w |= widePorted
	}
	if t.egress {
		w |= wideEgress
	}
	return s.widely(snap, w)
}

// widely reports whether only diff sees what the stream was told.
func (s *syncState) widely(snap *Snapshot, w wide) bool {
	if w&wideAll != 0 || w&wideEgress != 0 && s.kinds.egress {
		return true
	}
	if w&wideBacked != 0 && slices.ContainsFunc(snap.byNode.Get(s.node), isIngress) {
		return true
	}
	if w&widePorted != 0 {
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
			if _, behind := slices.BinarySearch(snap.behind.Get(service), name); behind && s.has(service) {
				return true
			}
		}
	}
	return false
}
