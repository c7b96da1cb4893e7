package redirect

import (
	"context"
	"time"
)

// Yield lets another process load the datapath. This process keeps its listeners,
// sockets and heartbeat. Until Resume, the caller must not enrol, withdraw, update or
// repair anything.
func (d *Datapath) Yield() error {
	lock := d.lock
	d.lock = nil
	return lock.Close()
}

// LetGo closes the process's handles of links, after another process has
// the pods; its listeners stay. Links that are pinned are those of the other process by
// now. But an agent of v0.1.0 that finds maps of another version removes all pins and
// attaches its programs beside these, which would capture connections until Close, and
// refuse those of pods that fail closed as soon as the listeners are gone.
func (d *Datapath) LetGo() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.hooks() { // those that capture come first: the others serve what they have captured
		if l := d.links[h.name]; l != nil {
			l.Close()
			delete(d.links, h.name)
		}
	}
	for _, p := range d.pods {
		p.closeLinks()
	}
}

// Resume undoes Yield after the other process has ended: this process owns the pods
// again. It returns what it had to repair.
func (d *Datapath) Resume(ctx context.Context) (repaired []string, err error) {
	for limit := time.Now().Add(resumeLimit); ; time.Sleep(10 * time.Millisecond) {
		d.lock, err = lockPins(d.opts.PinRoot)
		if err == nil {
			return d.Repair()
		}
		if ctx.Err() != nil || time.Now().After(limit) {
			return nil, err
		}
	}
}

// resumeLimit bounds how long Resume waits for the other process to release the pins.
const resumeLimit = 3 * time.Second
