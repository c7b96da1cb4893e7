package h1

import (
	"time"

	"github.com/underlane/underlane/pkg/tap"
)

// An idle connection whose client is denied must not be cut: the client may be sending its next
// request, and would see the end of the connection in place of the reason. Another agent is told
// (farewell). Any other client has some time to make a request, which is answered with the reason.
// Meanwhile the application's side is closed already.

// lastIdle is how long a denied client has for a request. It is that of a client that connects
// ahead of need to a port with rules for requests.
const lastIdle = 10 * time.Second

// EndIdle implements request.Underway.
func (d *link) EndIdle() bool {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	if d.phase.idle && !d.phase.last {
		d.phase.wake(d.s.Client)
	}
	return d.phase.idle
}

// awaitLast prepares a last read of a denied client that is no agent. It returns false if the session
// is to end.
func (d *link) awaitLast() bool {
	if !d.s.Denied() || d.s.TLS == tap.TLSTrue {
		return false
	}
	d.phase.mu.Lock()
	partner := d.phase.partner
	goesOn := d.s.Lifetime.Draining.Err() == nil && (partner == nil || !partner.HungUp)
	if goesOn {
		d.phase.last, d.phase.partner = true, nil
		_ = d.s.Client.SetReadDeadline(time.Now().Add(lastIdle))
	}
	d.phase.mu.Unlock()
	if goesOn {
		closeAll(d.private)
		d.private = nil
	}
	return goesOn
}
