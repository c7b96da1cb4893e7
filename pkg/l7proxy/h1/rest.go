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

// resting is where a session rests.
type resting struct {
	conn.Place
	d    *session
	over func(*conn.Defect) // see GoOn
}

// Look has sessions rest that have waited for their next request since the last call. One goroutine
// calls it, again and again. It takes up to half a second.
func (r *Driver) Look(lot *conn.Lot) {
	var idle []*session
	r.sessions.Each(func(d *session) {
		if d.phase.isQuiet() && d.s.Lot != nil && d.s.Client.Raw() != nil {
			idle = append(idle, d)
		}
	})
	lot.Tell(len(idle), func(i int) bool { return idle[i].phase.askToRest(idle[i].s.Client) })
}

// isQuiet reports whether the session was idle at the last look, too, and has a goroutine.
func (ph *phase) isQuiet() bool {
	ph.mu.Lock()
	defer ph.mu.Unlock()
	was := ph.quiet
	ph.quiet = ph.idle
	return was && ph.idle && !ph.rest.rests()
}

// askToRest asks the session to rest, unless it is not idle any more, and reports whether it has.
func (ph *phase) askToRest(client conn.Conn) bool {
	ph.mu.Lock()
	defer ph.mu.Unlock()
	if !ph.idle || !ph.quiet || ph.asked || ph.woken || ph.rest.rests() {
		return false
	}
	ph.asked = true
	_ = client.SetReadDeadline(aLongTimeAgo)
	return true
}

// mayRest reports whether the session is to rest, after err of a read that has got nothing. It
// stays idle.
func (ph *phase) mayRest(client conn.Conn, err error) bool {
	ph.mu.Lock()
	defer ph.mu.Unlock()
	if !ph.asked || ph.woken || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	_ = client.SetReadDeadline(time.Time{})
	ph.asked, ph.quiet = false, false
	return true
}

// rests reports whether the session rests. r may be nil.
func (r *resting) rests() bool { return r != nil && r.Parked() }

// GoOn implements request.Rest.
func (r *resting) GoOn(over func(*conn.Defect)) {
	s := r.d.s
	r.over = over
	r.Init(s.Lot, s.Client.Raw(), r.resume)
	r.d.phase.mu.Lock()
	r.d.phase.rest = r
	r.d.phase.mu.Unlock()
	r.park()
}

// park has the session rest. The caller does nothing for it afterwards.
func (r *resting) park() {
	r.d.s.Task.Pause()
	r.d.phase.mu.Lock()
	defer r.d.phase.mu.Unlock()
	if r.d.phase.woken { // after mayRest
		go r.resume()
		return
	}
	r.Park()
}

// resume goes on in a goroutine.
func (r *resting) resume() {
	rests, defect := r.contain()
	if rests {
		r.park()
		return
	}
	r.d.s.Task.Pause()
	r.over(defect)
}

// contain is carry, and recovers from a panic: a defect that the bytes of one connection trigger
// must not end the traffic of the whole node.
func (r *resting) contain() (rests bool, defect *conn.Defect) {
	defer func() {
		if what := recover(); what != nil {
			rests, defect = false, &conn.Defect{What: what, Stack: debug.Stack()}
		}
	}()
	r.d.s.Task.Resume()
	r.d.rests = false
	return carry(r.d), nil
}
