package l7proxy

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
)

// h1Sessions are the HTTP/1 sessions of a proxy, for those who have to look at
// all of them: the drain, and the watch for clients that have gone.
type h1Sessions struct {
	mu  sync.Mutex
	all map[*h1]struct{}
}

func (h *h1Sessions) enter(d *h1) {
	h.mu.Lock()
	h.all[d] = struct{}{}
	h.mu.Unlock()
}

func (h *h1Sessions) leave(d *h1) {
	h.mu.Lock()
	delete(h.all, d)
	h.mu.Unlock()
}

func (h *h1Sessions) each(f func(*h1)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for d := range h.all {
		f(d)
	}
}

// wakeIdle makes the reads of all idle sessions fail.
func (h *h1Sessions) wakeIdle() { h.each((*h1).wakeIdle) }

// watchEvery is how often sessions that wait for a response are looked at.
// While a session waits nobody reads from its client, and so nobody sees it go.
const watchEvery = time.Second

// watch gives up the requests whose clients have gone: an endpoint must not
// work, or stream, for nobody. As of most proxies, a client that has ended its
// side counts as gone.
func (h *h1Sessions) watch() { h.each((*h1).watch) }

// phase is what a session is doing, for others to see.
type phase struct {
	mu      sync.Mutex
	idle    bool // waits for a next request
	woken   bool // its read was made to fail, for a drain
	waits   Conn // the endpoint's connection, while it waits for a response there
	more    bool // the client has sent more than this request
	turn    uint64
	watched uint64 // the turn that the watch saw last
	gaveUp  bool   // the watch has reset the endpoint's connection
}

func (d *h1) beginIdle() {
	d.phase.mu.Lock()
	d.phase.idle = true
	d.phase.mu.Unlock()
}

func (d *h1) endIdle() {
	d.phase.mu.Lock()
	d.phase.idle = false
	if d.phase.woken { // a request has come all the same: it is served
		d.phase.woken = false
		_ = d.s.Client.SetReadDeadline(time.Time{})
	}
	d.phase.mu.Unlock()
}

func (d *h1) wakeIdle() {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.idle {
		d.phase.woken = true
		_ = d.s.Client.SetReadDeadline(past)
	}
}

func (d *h1) beginWait(server Conn) {
	d.phase.mu.Lock()
	d.phase.waits, d.phase.more = server, len(d.in) > 0
	d.phase.turn++
	d.phase.mu.Unlock()
}

// endWait ends the wait, after which the watch leaves the endpoint's
// connection alone.
func (d *h1) endWait() {
	d.phase.mu.Lock()
	d.phase.waits = nil
	d.phase.mu.Unlock()
}

func (d *h1) watch() {
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
	if !ph.more && gone(d.s.Client) {
		ph.gaveUp = true
		reset(ph.waits)
		ph.waits = nil
	}
}

// readReason says why reading from the endpoint failed.
func (d *h1) readReason(err error) mesh.Reason {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.gaveUp {
		return mesh.ReasonClientReset
	}
	return readReason(err)
}

// closeNotify is about the size of the alert that ends a TLS connection.
const closeNotify = 64

// gone reports whether a client has ended its side with nothing left to read.
func gone(c Conn) bool {
	if s, ok := c.(*muxStream); ok {
		return s.HungUp() && s.Pending() == 0
	}
	raw := rawOf(c)
	if raw == nil || !raw.HungUp() {
		return false
	}
	allowed := 0
	if _, plain := c.(*rawio.Conn); !plain {
		allowed = closeNotify
	}
	return raw.Pending() <= allowed
}
