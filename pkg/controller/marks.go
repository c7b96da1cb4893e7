package controller

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// marks has what the translation says of each pod, and what is published: with Enrolled,
// Leaving and the addresses that agents have reported.
type marks struct {
	pods  map[string]*marked    // by UID
	nodes map[string]*nodeMarks // those that have pods of the mesh
	// touched are the pods for which something has changed since the last apply, and claims the
	// claims.
	touched map[string]struct{}
	claims  map[claim]struct{}
	strange map[claim]struct{}  // on pods that the source has not had
	held    map[netip.Addr]int  // how many pods and Services have an address
	bare    map[string]struct{} // pods of the mesh without an address
	late    bool                // enrolWithin is over for a pod
}

type marked struct {
	plain, out        *mesh.Workload // of the translation, nil if it is gone; and published
	enrolled, leaving bool
	overdue           bool
	given             []netip.Addr
}

type nodeMarks struct {
	enrolled map[string]struct{}
	others   map[string]struct{} // labelled, with an address, and not enrolled
}

func newMarks() marks {
	return marks{
		pods: map[string]*marked{}, nodes: map[string]*nodeMarks{}, touched: map[string]struct{}{}, claims: map[claim]struct{}{},
		strange: map[claim]struct{}{}, held: map[netip.Addr]int{}, bare: map[string]struct{}{},
	}
}

// touch notes that something has changed about a claim. The caller holds mu.
func (e *enrolments) touch(is claim) {
	e.marks.touched[is.uid], e.marks.claims[is] = struct{}{}, struct{}{}
}

// apply takes what the translation has changed, and returns what has changed of the workloads
// as they are published. It costs what has changed, and what waits: pods that are to be
// enrolled or that have no address yet. It removes the claims on pods that are gone. A claim
// counts only if it comes from the node of the pod.
func (e *enrolments) apply(workloads []mesh.Changed[mesh.Workload], services []mesh.Changed[mesh.Service]) []mesh.Changed[mesh.Workload] {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := &e.marks
	for _, c := range services {
		m.holdService(c.Before, -1)
		m.holdService(c.After, 1)
	}
	for _, c := range workloads {
		if c.Before != nil {
			m.hold(c.Before.Addrs, -1)
			e.touch(claim{c.Before.UID, c.Before.Node})
			if p := m.pods[c.Before.UID]; p != nil && p.plain == c.Before {
				m.leaveNode(c.Before)
				p.plain = nil
			}
		}
	}
	for _, c := range workloads {
		if w := c.After; w != nil {
			m.hold(w.Addrs, 1)
			e.touch(claim{w.UID, w.Node})
			p := m.pods[w.UID]
			if p == nil {
				p = &marked{}
				m.pods[w.UID] = p
			}
			p.plain = w
		}
	}
	for is := range m.claims {
		e.settle(is)
	}
	nodes := map[string]struct{}{}
	for uid := range m.touched {
		if p := m.pods[uid]; p != nil && p.plain != nil {
			m.judge(p)
			nodes[p.plain.Node] = struct{}{}
		}
	}
	for is := range m.claims {
		nodes[is.node] = struct{}{}
	}
	e.markOverdue(nodes)
	e.giveAddresses()
	out := m.publish()
	for is := range m.strange {
		if was, there := e.pods[is]; !there || was.known {
			delete(m.strange, is)
		} else if time.Since(was.since) > unknownFor {
			delete(m.strange, is)
			delete(e.pods, is)
			e.unsaved = true
		}
	}
	m.touched, m.claims = emptied(m.touched), emptied(m.claims)
	e.save()
	return out
}

// emptied returns an empty map: another one, if all was large as at the start.
func emptied[K comparable](all map[K]struct{}) map[K]struct{} {
	if len(all) > 1024 {
		return map[K]struct{}{}
	}
	clear(all)
	return all
}

// settle says what a claim means for its pod. The caller holds mu.
func (e *enrolments) settle(is claim) {
	p := e.marks.pods[is.uid]
	was, claimed := e.pods[is]
	if p == nil || p.plain == nil || p.plain.Node != is.node { // it is gone, or of another node
		delete(e.leaving, is)
		if claimed && was.known {
			delete(e.pods, is)
			e.unsaved = true
		}
		return
	}
	if !p.plain.Meshed {
		// An enrolled pod that has just lost its label leaves until its agent says that it
		// carries nothing of it.
		if claimed {
			e.leaving[is] = true
			if was.known {
				delete(e.pods, is)
				e.unsaved = true
			}
		}
		p.enrolled, p.leaving = false, e.leaving[is]
		return
	}
	delete(e.leaving, is)
	p.enrolled, p.leaving = p.plain.Enrolled || claimed, false
	if p.enrolled && !was.known {
		if was.known = true; !claimed {
			was.since = time.Now()
		}
		e.pods[is] = was
		e.unsaved = true
	}
}

func (m *marks) hold(addrs []netip.Addr, n int) {
	for _, a := range addrs {
		if a = a.Unmap(); m.held[a]+n == 0 {
			delete(m.held, a)
		} else {
			m.held[a] += n
		}
	}
}

func (m *marks) holdService(s *mesh.Service, n int) {
	if s == nil {
		return
	}
	m.hold(s.VIPs, n)
	for i := range s.Ports {
		m.hold(s.Ports[i].External, n)
	}
}

func (m *marks) node(name string) *nodeMarks {
	n := m.nodes[name]
	if n == nil {
		n = &nodeMarks{enrolled: map[string]struct{}{}, others: map[string]struct{}{}}
		m.nodes[name] = n
	}
	return n
}

func (m *marks) leaveNode(w *mesh.Workload) {
	n := m.node(w.Node)
	delete(n.enrolled, w.UID)
	delete(n.others, w.UID)
	delete(m.bare, w.UID)
	if len(n.enrolled)+len(n.others) == 0 {
		delete(m.nodes, w.Node)
	}
}

// judge files a pod by what it waits for.
func (m *marks) judge(p *marked) {
	w := p.plain
	m.leaveNode(w)
	switch {
	case !w.Meshed:
		return
	case p.enrolled:
		m.node(w.Node).enrolled[w.UID] = struct{}{}
	case len(w.Addrs) > 0:
		m.node(w.Node).others[w.UID] = struct{}{}
	}
	if len(w.Addrs) == 0 {
		m.bare[w.UID] = struct{}{}
	}
}

// publish returns what has changed of the pods that are touched.
func (m *marks) publish() (out []mesh.Changed[mesh.Workload]) {
	for uid := range m.touched {
		p := m.pods[uid]
		if p == nil {
			continue
		}
		old := p.out
		if p.out = p.plain; p.plain == nil {
			delete(m.pods, uid)
		} else if enrolled := p.enrolled || p.overdue; enrolled != p.plain.Enrolled || p.leaving || len(p.given) > 0 {
			w := *p.plain
			w.Enrolled, w.Leaving = enrolled, p.leaving
			if len(p.given) > 0 {
				w.Addrs = p.given
			}
			if p.out = &w; old != nil && old.Alike(p.out) {
				p.out = old
			}
		}
		if p.out != old {
			out = append(out, mesh.Changed[mesh.Workload]{Before: old, After: p.out})
		}
	}
	return out
}

// giveAddresses gives the addresses that agents have reported to enrolled workloads that
// have none. An agent has a pod's address from its sandbox when the pod starts. The
// kubelet writes it to the pod's status a second or two later, and until then no other
// node would know whose address it is. A node can thus say which address a pod of its own
// has, as its kubelet can. It cannot take an address that another pod or a Service has. The
// caller holds mu.
func (e *enrolments) giveAddresses() {
	m := &e.marks
	for uid := range m.touched {
		if p := m.pods[uid]; p != nil && len(p.given) > 0 {
			if _, bare := m.bare[uid]; !bare {
				p.given = nil
			}
		}
	}
	taken := map[netip.Addr]bool{}
	bare := slices.SortedFunc(maps.Keys(m.bare), func(a, b string) int {
		v, w := m.pods[a].plain, m.pods[b].plain
		return cmp.Or(cmp.Compare(v.Namespace, w.Namespace), cmp.Compare(v.Name, w.Name), cmp.Compare(a, b))
	})
	for _, uid := range bare {
		p := m.pods[uid]
		var given []netip.Addr
		for _, addr := range e.pods[claim{uid, p.plain.Node}].addrs {
			if addr.IsValid() && !taken[addr] && m.held[addr.Unmap()] == 0 {
				taken[addr] = true
				given = append(given, addr)
			}
		}
		if !slices.Equal(given, p.given) {
			p.given = given
			m.touched[uid] = struct{}{}
		}
	}
}
