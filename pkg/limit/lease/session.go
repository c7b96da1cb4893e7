package lease

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Session is the Ledger's end of an agent's stream.
type Session struct {
	ledger  *Ledger
	node    string
	wake    chan struct{}
	holds   map[uint64]*hold
	waiting map[uint64]Demand // of limits that the Ledger does not have for the node yet

	last     time.Duration // when a report came; before the first one: when the stream began
	reported bool
	was      bool // current, at the last Settle
	closed   bool

	left      []*hold // of an earlier stream
	leftUntil time.Duration

	seq      uint64 // of the last report
	answered uint64 // seq of the last answer
	number   uint64 // of the last answer
}

// mostWaiting bounds the demands that wait for their limit.
const mostWaiting = 1024

// Errors of Report.
var (
	ErrReplaced = errors.New("another stream of the node has begun")
	errReport   = errors.New("report is not understood")
)

// Connect begins a stream of a node. What the node had on its last one counts until the
// leases end.
func (l *Ledger) Connect(now time.Duration, node string) *Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Session{ledger: l, node: node, wake: make(chan struct{}, 1), holds: map[uint64]*hold{}, waiting: map[uint64]Demand{}, last: now}
	if old := l.nodes[node]; old != nil {
		old.closed = true
		old.signal()
		s.was = old.was
		s.inherit(old)
	}
	l.nodes[node] = s
	l.touch(node)
	return s
}

// inherit takes what the node had on another stream. The agent names it anew where it still
// uses it.
func (s *Session) inherit(old *Session) {
	s.left, s.leftUntil = old.left, max(old.leftUntil, old.last+TTL)
	for _, h := range old.holds {
		s.left = append(s.left, h)
	}
	for _, h := range s.left {
		h.session, h.id, h.left = s, 0, true
	}
}

// purge forgets what was inherited and not named in time.
func (s *Session) purge(now time.Duration) {
	if len(s.left) == 0 || now < s.leftUntil {
		return
	}
	for _, h := range s.left {
		if h.left {
			s.ledger.release(h)
		}
	}
	s.left = nil
}

// Wake receives when Leases has something to send.
func (s *Session) Wake() <-chan struct{} { return s.wake }

func (s *Session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// current reports whether the agent's leases can hold.
func (s *Session) current(now time.Duration) bool {
	return s.reported && !s.closed && now < s.last+TTL
}

// Close ends the stream.
func (s *Session) Close() {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	s.closed = true
}

// Report takes a report of the agent. After an error the stream has to end.
func (s *Session) Report(now time.Duration, r Report) error {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes[s.node] != s {
		return ErrReplaced
	}
	if r.Seq <= s.seq || r.Applied > s.number {
		return fmt.Errorf("%w: report %d after %d, leases %d of %d", errReport, r.Seq, s.seq, r.Applied, s.number)
	}
	lapsed := s.reported && now >= s.last+TTL
	s.seq, s.last, s.reported = r.Seq, now, true
	if lapsed {
		// The leases have ended, and the others may have what they were. The agent will
		// have them again with the next answer, so that has to say what they are now.
		for _, h := range s.holds {
			own := h.in.of.own()
			if h.granted < 0 || h.granted > own {
				h.granted = own
			}
			h.force, h.fresh, h.number = own, true, 0
		}
	}
	for _, h := range s.holds {
		if !h.fresh && h.number > 0 && h.number <= r.Applied && h.force != h.granted {
			h.force = h.granted
			l.dirty[h.in] = struct{}{}
		}
	}
	for _, id := range r.Gone {
		delete(s.waiting, id)
		if h := s.holds[id]; h != nil {
			l.release(h)
		}
	}
	for _, d := range r.Demands {
		if math.IsNaN(d.Rate) || d.Rate < 0 {
			return fmt.Errorf("%w: a demand of %v", errReport, d.Rate)
		}
		s.demand(d)
	}
	return nil
}

// demand notes a demand, with the Ledger's mutex held.
func (s *Session) demand(d Demand) {
	l := s.ledger
	if h := s.holds[d.ID]; h != nil {
		h.demand = d.Rate
		l.dirty[h.in] = struct{}{}
		return
	}
	if d.Limit == "" {
		w, ok := s.waiting[d.ID]
		if !ok {
			return
		}
		w.Rate = d.Rate
		d = w
	}
	a := l.limits[d.Limit]
	mine := false
	if a != nil {
		_, mine = a.Nodes[s.node]
	}
	if !mine {
		if len(s.waiting) < mostWaiting {
			s.waiting[d.ID] = d
		}
		return
	}
	delete(s.waiting, d.ID)
	e := a.entries[d.Key]
	if e == nil {
		if len(a.entries) >= MostShared {
			return
		}
		e = &entry{of: a, key: d.Key, holds: map[string]*hold{}}
		a.entries[d.Key] = e
	}
	h := e.holds[s.node]
	if h == nil {
		if len(s.holds) >= MostHolds || l.held >= MostHeld {
			e.outside++
			l.dirty[e] = struct{}{}
			return
		}
		h = &hold{in: e}
		e.holds[s.node] = h
		l.held++
	} else if !h.left {
		delete(s.holds, h.id)
	}
	// The agent has its own part until it gets a lease, or what is left of an earlier one.
	h.force = max(h.inForce(), a.own())
	h.session, h.id, h.demand, h.granted, h.fresh, h.number, h.left = s, d.ID, d.Rate, -1, false, 0, false
	s.holds[d.ID] = h
	l.dirty[e] = struct{}{}
}

// retry notes the demands that waited for their limit, with the Ledger's mutex held.
func (s *Session) retry() {
	for _, d := range s.waiting {
		s.demand(d)
	}
}

// Leases returns the message to be sent now. ok is false if there is none.
func (s *Session) Leases(now time.Duration) (out Leases, ok bool) {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes[s.node] != s || !s.current(now) || now < l.begun+TTL {
		return Leases{}, false
	}
	for _, h := range s.holds {
		if h.fresh {
			out.Grants = append(out.Grants, Grant{ID: h.id, Rate: h.granted})
			h.fresh, h.number = false, s.number+1
		}
	}
	if len(out.Grants) == 0 && s.answered == s.seq {
		return Leases{}, false
	}
	s.number++
	s.answered = s.seq
	out.Seq, out.Number = s.seq, s.number
	return out, true
}
