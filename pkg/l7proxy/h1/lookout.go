package h1

import (
	"sync"
	"time"
)

// lookout has the kernel watch the clients of sessions whose first request takes some time.
// To watch a connection costs a system call, which is wasted where a client makes a
// connection for each request and is answered soon.
type lookout struct {
	mu sync.Mutex
	// begun are those of the sessions whose first request was sent since the last look. Nothing is
	// taken off before that, so they are those of one period, each within its pod's limit
	// of connections.
	begun []*link
}

// lookoutPeriod is how late an end of the client may be passed on during its first request.
const lookoutPeriod = 10 * time.Millisecond

// add notes that d waits for the response to its first request.
func (l *lookout) add(d *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun = append(l.begun, d); len(l.begun) == 1 {
		time.AfterFunc(lookoutPeriod, l.look)
	}
}

// look has the clients of the sessions that still wait watched.
func (l *lookout) look() {
	l.mu.Lock()
	begun := l.begun
	l.begun = nil
	l.mu.Unlock()
	for _, d := range begun {
		if d.waits() {
			d.watchClient()
		}
	}
}

func (d *link) waits() bool {
	d.phase.mu.Lock()
	defer d.phase.mu.Unlock()
	return d.phase.waits != nil
}

// watchClient has clientHungUp called when the client has ended its side.
func (d *link) watchClient() {
	if !d.watched.Swap(true) {
		_ = d.s.Client.OnHangup(&d.driver.hangups, d.clientHungUp) // at worst the client is seen to go later
	}
}
