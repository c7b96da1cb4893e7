package h1

import (
	"errors"
	"os"
	"runtime/debug"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
)

// A session that has waited for its next request for a second or two rests: it gives its
// goroutine up, whose stack would be half of what it holds, and waits in the Lot of the proxy. It
// is idle all the while, and stays in the list of the driver's sessions. What comes next, bytes or
// the end, or what ends its wait otherwise (wake), it finds in a new goroutine, as it would have
// found it in the old one.
//
// Streams of shared connections keep their goroutines.

// restPlace is where a session rests.
type restPlace struct {
	conn.Place
	over func(*conn.Defect) // see GoOn
}

// Look has sessions rest that have waited for their next request since the last call. One goroutine
// calls it, again and again. It takes up to half a second.
func (r *Driver) Look(lot *conn.Lot) {
	var idle []*session
	r.sessions.Each(func(d *session) {
		if d.isQuiet() {
			idle = append(idle, d)
		}
	})
	lot.Tell(len(idle), func(i int) bool { return idle[i].askToRest() })
}

// isQuiet reports whether the session was idle at the last look, too, and has a goroutine that it
// can give up.
func (d *link) isQuiet() bool {
	ph := &d.phase
	ph.mu.Lock()
	defer ph.mu.Unlock()
	was := ph.quiet
	ph.quiet = ph.idle
	return was && ph.idle && !ph.rest.rests() && d.s.Lot != nil && d.s.Client.Raw() != nil
}

// askToRest asks the session to rest, and reports whether it has, unless it is not idle any more.
func (d *link) askToRest() bool {
	ph := &d.phase
	ph.mu.Lock()
	defer ph.mu.Unlock()
	if !ph.idle || !ph.quiet || ph.asked || ph.woken || ph.rest.rests() {
		return false
	}
	ph.asked = true
	_ = d.s.Client.SetReadDeadline(aLongTimeAgo)
	return true
}

// rests reports whether the session rests. r may be nil.
func (r *restPlace) rests() bool { return r != nil && r.Parked() }

// mayRest reports whether the session is to rest, after err of a read that has got nothing. It
// stays idle.
func (d *link) mayRest(err error) bool {
	ph := &d.phase
	ph.mu.Lock()
	defer ph.mu.Unlock()
	if !ph.asked || ph.woken || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	_ = d.s.Client.SetReadDeadline(time.Time{})
	ph.asked, d.rests = false, true
	return true
}

// GoOn implements request.Rest.
func (d *session) GoOn(over func(*conn.Defect)) {
	r := &restPlace{over: over}
	r.Init(d.s.Lot, d.s.Client.Raw(), d.resume)
	d.phase.mu.Lock()
	d.phase.rest = r
	d.phase.mu.Unlock()
	d.park()
}

// park has the session rest. The caller does nothing for it afterwards.
func (d *session) park() {
	d.s.Task.Pause()
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.woken { // after mayRest
		go d.resume()
		return
	}
	d.phase.rest.Park()
}

// resume goes on in a goroutine.
func (d *session) resume() {
	rests, defect := d.contain()
	if rests {
		d.park()
		return
	}
	d.s.Task.Pause()
	d.phase.rest.over(defect)
}

// contain is carry, and recovers from a panic: a defect that the bytes of one connection trigger
// must not end the traffic of the whole node.
func (d *session) contain() (rests bool, defect *conn.Defect) {
	defer func() {
		if what := recover(); what != nil {
			rests, defect = false, &conn.Defect{What: what, Stack: debug.Stack()}
		}
	}()
	d.s.Task.Resume()
	d.rests = false
	return d.carry(), nil
}
