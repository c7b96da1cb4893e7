package controller

import (
	"time"
)

// enrolWithin is how long a labelled pod with an address may wait for its enrolment, on a
// node whose agent has enrolled others. Meanwhile clients may reach it in plaintext, as
// before it had the label.
const enrolWithin = 30 * time.Second

// markOverdue marks pods that should have been enrolled by now: clients do not send plaintext
// to them, although nothing is enrolled there. A node without an enrolled pod may have no agent
// at all, and its pods are left alone. nodes are those where something has changed. markOverdue
// asks for another call when the next pod is due. The caller holds mu.
func (e *enrolments) markOverdue(nodes map[string]struct{}) {
	m, now := &e.marks, time.Now()
	if m.late {
		m.late = false
		for is := range e.waiting {
			nodes[is.node] = struct{}{}
		}
	}
	for is := range e.waiting {
		if _, looked := nodes[is.node]; looked {
			if n := m.nodes[is.node]; n == nil || len(n.enrolled) == 0 || !has(n.others, is.uid) {
				delete(e.waiting, is)
				m.setOverdue(is.uid, false)
			}
		}
	}
	for name := range nodes {
		n := m.nodes[name]
		if n == nil || len(n.enrolled) == 0 {
			continue
		}
		for uid := range n.others {
			is := claim{uid, name}
			since, known := e.waiting[is]
			if !known {
				since = now
				e.waiting[is] = since
			}
			m.setOverdue(uid, now.Sub(since) >= enrolWithin)
		}
	}
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	next, due := enrolWithin, false
	for _, since := range e.waiting {
		if left := enrolWithin - now.Sub(since); left > 0 {
			next, due = min(next, left), true
		}
	}
	if due {
		e.timer = time.AfterFunc(next, func() {
			e.mu.Lock()
			e.marks.late = true
			e.mu.Unlock()
			e.change()
		})
	}
}

func has(set map[string]struct{}, uid string) bool { _, is := set[uid]; return is }

func (m *marks) setOverdue(uid string, overdue bool) {
	if p := m.pods[uid]; p != nil && p.overdue != overdue {
		p.overdue = overdue
		m.touched[uid] = struct{}{}
	}
}

// change makes the controller call apply soon.
func (e *enrolments) change() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}
