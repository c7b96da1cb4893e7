package controller

import (
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// enrolWithin is how long a labelled pod with an address may wait for its enrolment, on a
// node whose agent has enrolled others. Meanwhile clients may reach it in plaintext, as
// before it had the label.
const enrolWithin = 30 * time.Second

// markOverdue sets Enrolled of pods that should have been enrolled by now: clients do not
// send plaintext to them, although nothing is enrolled there. A node without an enrolled pod
// may have no agent at all, and its pods are left alone. markOverdue asks for another call
// when the next pod is due. The caller holds mu and has set Enrolled of the others.
func (e *enrolments) markOverdue(workloads []*mesh.Workload) {
	hasAgent := make(map[string]bool)
	for _, w := range workloads {
		if w.Meshed && w.Enrolled {
			hasAgent[w.Node] = true
		}
	}
	waiting, next, now := make(map[claim]time.Time), enrolWithin, time.Now()
	due := false
	for _, w := range workloads {
		if !w.Meshed || w.Enrolled || len(w.Addrs) == 0 || !hasAgent[w.Node] {
			continue
		}
		is := claim{w.UID, w.Node}
		since, known := e.waiting[is]
		if !known {
			since = now
		}
		waiting[is] = since
		if left := enrolWithin - now.Sub(since); left > 0 {
			next, due = min(next, left), true
		} else {
			w.Enrolled = true
		}
	}
	e.waiting = waiting
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if due {
		e.timer = time.AfterFunc(next, e.change)
	}
}

// change makes the controller call mark soon.
func (e *enrolments) change() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}
