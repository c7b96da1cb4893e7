package redirect

import (
	"fmt"
	"net/netip"

	"github.com/underlane/underlane/pkg/redirect/netns"
)

// Connections lists the open connections of the pod's namespace, those of the agent's sockets
// in it included.
func (p *sockets) Connections() ([]netns.Connection, error) {
	list, err := p.ns.Connections()
	if err != nil {
		return nil, fmt.Errorf("connections of pod %s: %w", p.Name, err)
	}
	return list, nil
}

// Destroy ends a connection of the pod's namespace. It does nothing if there is none between
// these addresses.
func (p *sockets) Destroy(local, remote netip.AddrPort) error {
	if err := p.ns.Destroy(local, remote); err != nil {
		return fmt.Errorf("pod %s: %w", p.Name, err)
	}
	return nil
}
