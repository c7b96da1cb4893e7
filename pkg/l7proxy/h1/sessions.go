package h1

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// Watch gives up the requests whose clients have gone: an endpoint must not
// work, or stream, for nobody. While a session waits for a response nothing reads
// from its client, and so nothing sees it go. As in most proxies, a client that has
// ended its side counts as gone. Watch is called about once a second.
func (r *Driver) Watch() { r.sessions.Each((*session).watch) }

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
	woken   bool      // its read was made to fail, for a drain
	waits   conn.Conn // the endpoint's connection, while it waits for a response there
	more    bool      // the client has sent more than this request
	turn    uint64
	watched uint64 // the turn that the watch saw last
	gaveUp  bool   // the watch has reset the endpoint's connection
}

func (d *session) beginIdle() {
	d.phase.mu.Lock()
	d.phase.idle = true
	d.phase.mu.Unlock()
}

func (d *session) endIdle() {
	d.phase.mu.Lock()
	d.phase.idle = false
	if d.phase.woken { // a request has come all the same: it is served
		d.phase.woken = false
		_ = d.s.Client.SetReadDeadline(time.Time{})
	}
	d.phase.mu.Unlock()
}

func (d *session) wakeIdle() {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.idle {
		d.phase.woken = true
		_ = d.s.Client.SetReadDeadline(aLongTimeAgo)
	}
}

func (d *session) beginWait(server conn.Conn) {
	d.phase.mu.Lock()
	d.phase.waits, d.phase.more = server, len(d.in) > 0
	d.phase.turn++
	d.phase.mu.Unlock()
}

// endWait ends the wait, after which the watch leaves the endpoint's
// connection alone.
func (d *session) endWait() {
	d.phase.mu.Lock()
	d.phase.waits = nil
	d.phase.mu.Unlock()
}

func (d *session) watch() {
	ph := &d.phase
	ph.mu.Lock()
	defer ph.mu.Unlock()
	if ph.waits == nil {
		return
	}
	if ph.watched != ph.turn {
		ph.watched = ph.turn // new since the last look
		return
	}
	if !ph.more && d.s.Client.PeerClosed() {
		ph.gaveUp = true
		_ = ph.waits.Reset()
		ph.waits = nil
	}
}

// readReason says why reading from the endpoint failed.
func (d *session) readReason(err error) mesh.Reason {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.gaveUp {
		return mesh.ReasonClientReset
	}
	return upstream.ReadReason(err)
}
