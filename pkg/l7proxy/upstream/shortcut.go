package upstream

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/mesh"
)

// shortcut is the part of a connection that only those between two pods of this node have. The
// agent has decided by the policies before it made the connection. No other agent decides.
type shortcut struct {
	client, server *mesh.Workload // nil: the connection is none
	to             netip.AddrPort // address of server
	revoked        atomic.Bool
}

// shortcuts are those that are open, pooled ones as well.
type shortcuts struct {
	mu   sync.Mutex
	open map[*plainConn]struct{}
}

func (s *shortcuts) add(c *plainConn, ep *Endpoint) {
	c.client, c.server, c.to = ep.Client, ep.Peer.Workload, ep.Peer.Addr
	s.mu.Lock()
	if s.open == nil {
		s.open = make(map[*plainConn]struct{})
	}
	s.open[c] = struct{}{}
	s.mu.Unlock()
	c.OnClose(func() {
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
	})
}

// RevokeShortcuts cuts the connections between pods of this node for which judge returns an
// error, whatever is under way on them: it fails with ReasonPolicyDenied. It returns their
// number.
func (p *dialer) RevokeShortcuts(judge func(client, server *mesh.Workload, to netip.AddrPort) error) (cut int) {
	var denied []*plainConn
	p.shortcuts.mu.Lock()
	for c := range p.shortcuts.open {
		if judge(c.client, c.server, c.to) != nil {
			denied = append(denied, c)
		}
	}
	p.shortcuts.mu.Unlock()
	for _, c := range denied { // closing one takes it off the list
		c.revoked.Store(true)
		_ = c.Reset()
	}
	return len(denied)
}
