package redirect

import (
	"fmt"

	"github.com/underlane/underlane/pkg/redirect/netns"
)

// Connections lists the open connections of the pod's namespace, those of the agent's sockets
// in it included.
func (p *Pod) Connections() ([]netns.Connection, error) {
	list, err := p.ns.Connections()
	if err != nil {
		return nil, fmt.Errorf("connections of pod %s: %w", p.Name, err)
	}
	return list, nil
}
