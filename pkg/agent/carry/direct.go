package carry

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// Direct lists the connections of an enrolled pod that no proxy carries, such as those that
// were opened before it was enrolled. It returns none for a pod that is not enrolled.
func (c *registry) Direct(uid string) ([]netns.Connection, error) {
	c.mu.RLock()
	p := c.byUID[uid]
	if p == nil {
		c.mu.RUnlock()
		return nil, nil
	}
	p.Hold()
	defer p.Release()
	own := map[socket]bool{}
	p.addSockets(own)
	c.mu.RUnlock()
	list, err := p.Connections()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	c.mu.RLock()
	p.addSockets(own) // those that were opened meanwhile
	c.mu.RUnlock()
	return slices.DeleteFunc(list, func(s netns.Connection) bool { return own[socket{s.Local, s.Remote}] }), nil
}

// socket identifies a connection of a pod's namespace by its addresses.
type socket struct{ local, remote netip.AddrPort }

// addSockets adds the agent's sockets in the pod's namespace. registry.mu is held.
func (p *pod) addSockets(set map[socket]bool) {
	for _, conns := range []map[*rawio.Conn]struct{}{p.conns, p.callers} {
		for conn := range conns {
			set[socket{conn.Local(), conn.Remote()}] = true
		}
	}
}

// DirectTo counts the connections of an enrolled pod to an address that no proxy carries.
func (c *registry) DirectTo(uid string, to netip.AddrPort) (int, error) {
	list, err := c.Direct(uid)
	n := 0
	for i := range list {
		if list[i].Remote == to {
			n++
		}
	}
	return n, err
}

// CutDirect ends these connections, and returns how many there were.
func (c *registry) CutDirect(uid string, to netip.AddrPort) (cut int, err error) {
	list, err := c.Direct(uid)
	if err != nil {
		return 0, err
	}
	c.mu.RLock()
	p := c.byUID[uid]
	if p == nil {
		c.mu.RUnlock()
		return 0, nil
	}
	p.Hold()
	defer p.Release()
	c.mu.RUnlock()
	for i := range list {
		if list[i].Remote != to {
			continue
		}
		if failure := p.Destroy(list[i].Local, to); failure != nil {
			err = failure
			continue
		}
		cut++
	}
	return cut, err
}

// Cookie returns the cookie of the namespace of an enrolled pod. False: the pod is not
// enrolled.
func (c *registry) Cookie(uid string) (uint64, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	p := c.byUID[uid]
	if p == nil || p.ended {
		return 0, false
	}
	return p.Pod.Cookie(), true
}
