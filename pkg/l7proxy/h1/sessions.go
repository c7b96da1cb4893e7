package h1

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// While a request waits for its response the driver does not read from the client. The
// kernel tells when the client hangs up (rawio.Hangups; lookout has a first request watched
// only if it takes some time). If the client is gone, the request is cancelled: the
// endpoint's connection is reset, so that the endpoint stops its work. If the client has
// sent a FIN and may still read, the FIN is passed on to the endpoint, which then sees what
// it would see without the mesh.
//
// An idle session ends when the endpoint ends the connection that its last exchange used,
// if the two are a pair (request.Session.Paired).

// Watch cancels the requests of clients that are gone while the endpoint does not take the
// request's body: the driver waits for the endpoint then, and acts on no event.
func (r *Driver) Watch() { r.sessions.Each((*session).watch) }

// Each calls f for each session. f must not wait.
func (r *Driver) Each(f func(*request.Session)) {
	r.sessions.Each(func(d *session) { f(d.s) })
}

// Close ends the driver, after its sessions.
func (r *Driver) Close() { _ = r.hangups.Close() }

// Idle counts sessions that wait for a next request.
func (r *Driver) Idle() (n int) {
	r.sessions.Each(func(d *session) {
		d.phase.mu.Lock()
		defer d.phase.mu.Unlock()
		if d.phase.idle {
			n++
		}
	})
	return n
}

// phase is what a session is doing, for others to see.
type phase struct {
	mu      sync.Mutex
	idle    bool      // waits for a next request
	woken   bool      // its read was made to fail, for a drain or because partner has ended
	last    bool      // it is idle for the last time: its client is denied
	quiet   bool      // it was idle at the last look of the watch
	asked   bool      // its read was made to fail so that it rests
	rest    *resting  // where it rests; nil: it never has
	partner *appConn  // the connection that the session ends with, while it is idle; nil: none
	waits   conn.Conn // the endpoint's connection, while it waits for a response there
	more    bool      // the client has sent more than this request; valid if sent
	sent    bool      // the request has gone out whole
	hungUp  bool      // the client has ended its side, or is gone
	ended   bool      // the client's end was passed on to the endpoint
	turn    uint64
	watched uint64 // the turn that the watch saw last
	gaveUp  bool   // the endpoint's connection was reset: the client is gone
	underway
}

// beginIdle notes that the session waits for a next request. It returns false if there
// cannot be one, because the endpoint has ended the session's connection to it.
func (d *link) beginIdle() bool {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	d.phase.idle, d.phase.quiet = true, false
	d.phase.partner = d.partner()
	if d.s.Denied() {
		d.phase.wake(d.s.Client)
	}
	return d.phase.partner == nil || !d.phase.partner.HungUp
}

// endpointHungUp is called by rawio.Hangups for a private connection of the session.
func (d *link) endpointHungUp(up *appConn) {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	up.HungUp = true
	if d.phase.idle && d.phase.partner == up {
		d.phase.wake(d.s.Client)
	}
}

func (d *link) endIdle() {
	d.phase.mu.Lock()
	d.phase.idle, d.phase.last, d.phase.partner = false, false, nil
	if d.phase.woken || d.phase.asked { // a request has come all the same: it is served
		d.phase.woken, d.phase.asked = false, false
		_ = d.s.Client.SetReadDeadline(time.Time{})
	}
	d.phase.mu.Unlock()
}

func (d *link) wakeIdle() {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.idle {
		d.phase.wake(d.s.Client)
	}
}

// wake makes the client's pending read fail, or the next one of a session that rests. mu is held.
func (ph *phase) wake(client conn.Conn) {
	ph.woken = true
	_ = client.SetReadDeadline(aLongTimeAgo)
	if ph.rest != nil {
		ph.rest.Ready()
	}
}

func (d *link) beginWait(server conn.Conn) {
	d.pending = true
	d.phase.mu.Lock()
	d.phase.waits = server
	if d.phase.cut != mesh.ReasonNone {
		d.phase.cancel()
	}
	d.phase.sent, d.phase.ended = false, false
	d.phase.turn++
	first := d.phase.turn == 1
	d.phase.mu.Unlock()
	switch {
	case d.watched.Load():
	case first:
		d.driver.lookout.add(d)
	default:
		d.watchClient()
	}
}

// sent notes that the request has gone out whole. The goroutine that reads from the client
// calls it: the bytes behind the request's body may have come with the end of that.
func (d *link) sent() {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	d.phase.sent, d.phase.more = true, len(d.in) > 0
	if d.phase.hungUp {
		d.driver.leavers.add(d)
	}
}

// endPassed notes that the client's end, inside its request's body, was passed on to the
// endpoint: what is left to see of the client is that it is gone.
func (d *link) endPassed() {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	d.phase.sent, d.phase.ended = true, true
	if d.phase.hungUp {
		d.driver.leavers.add(d)
	}
}

// clientHungUp is called by rawio.Hangups, or by the connection that the client's is a
// stream of.
func (d *link) clientHungUp() {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	d.phase.hungUp = true
	if d.phase.waits != nil && d.phase.sent {
		d.driver.leavers.add(d)
	}
}

// halfClosed reports whether the endpoint was told of the client's end: its
// connection cannot be used again.
func (d *link) halfClosed() bool {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	return d.phase.ended
}

// endWait ends the wait, after which the watch leaves the endpoint's
// connection alone.
func (d *link) endWait() {
	d.phase.mu.Lock()
	d.phase.waits = nil
	d.phase.mu.Unlock()
}

func (d *link) watch() {
	ph := &d.phase
	ph.mu.Lock()
	defer ph.mu.Unlock()
	if ph.watched == ph.turn {
		d.look()
	}
	ph.watched = ph.turn // a request that is new since the last look has the time to go out
}

func (d *link) passHangup() {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.sent {
		d.look()
	}
}

// look looks whether the client of a request that waits has ended its side. phase.mu
// is held.
func (d *link) look() {
	ph := &d.phase
	if ph.waits == nil {
		return
	}
	ended, gone := d.s.Client.PeerClosed()
	if ended && !gone && !ph.more && ph.sent && !ph.ended {
		ph.ended = true
		go ph.waits.CloseWrite() // it may wait for the endpoint, and nothing waits for it
	}
	if gone {
		ph.gaveUp = true
		ph.cancel()
	}
}

// cancel resets the endpoint's connection, so that the endpoint stops its work. mu is held.
func (ph *phase) cancel() {
	_ = ph.waits.Reset()
	ph.waits = nil
}

// readReason says why reading from the endpoint failed.
func (d *link) readReason(err error) mesh.Reason {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	switch {
	case d.phase.cut != mesh.ReasonNone:
		return d.phase.cut
	case d.phase.gaveUp:
		return mesh.ReasonClientReset
	}
	return upstream.ReadReason(err)
}
