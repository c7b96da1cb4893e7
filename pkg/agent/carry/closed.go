package carry

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Without the mesh the kernel refuses a connection to a pod whose programs do not listen
// any more. The agent's listener accepts it, and the answer of the agent is lost if the
// pod's network is removed in that moment: a client outside the mesh then waits until its
// own keepalive or time limit ends. So once a pod that is being deleted has refused a
// connection of the agent, and nothing in it listens, the kernel refuses connections to
// it again. Connections that the agent has accepted before continue: a program that closes
// its listeners may still answer what it has.

// lookAgain is the least time between two looks for listeners in a pod: a pod that closes
// some of its listeners may refuse many connections.
const lookAgain = 100 * time.Millisecond

// refused reports whether p, which has refused a connection with err, will accept no
// connection any more: it is being deleted, and nothing in it listens. New connections to it
// fail from then on.
func (c *endings) refused(p *pod, err error) bool {
	if !errors.Is(err, unix.ECONNREFUSED) || !c.terminating(p) {
		return false
	}
	c.mu.Lock()
	closed, look := p.closed, time.Since(p.looked) >= lookAgain
	if look {
		p.looked = time.Now()
	}
	c.mu.Unlock()
	if closed || !look {
		return closed
	}
	listening, err := p.Listening()
	if err != nil {
		c.Log.Warn("cannot find out whether a pod that is being deleted still listens", "pod", p.Name, "err", err)
		return false
	}
	if listening {
		return false
	}
	c.mu.Lock()
	p.closed = true
	c.mu.Unlock()
	c.refuse(p)
	return true
}

// refuse makes the kernel refuse new connections to a pod whose programs have ended.
func (c *endings) refuse(p *pod) {
	if err := p.Refuse(); err != nil {
		c.Log.Warn("the agent still accepts connections to a pod that has ended", "pod", p.Name, "err", err)
	}
}

// terminating reports whether p is being deleted.
func (c *endings) terminating(p *pod) bool {
	w, known := c.State.View().WorkloadByUID(p.UID)
	return known && w.Terminating
}
