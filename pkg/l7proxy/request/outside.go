package request

import (
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Outside reports whether the destination of the session is outside the mesh, and no
// Service.
func (c *Connection) Outside() bool {
	return c.Direction == mesh.Outbound && c.Target != nil && c.Target.Service() == nil && c.Target.Peer().Workload == nil
}

// outsideName is the name of the last authority of a session, because most sessions have one
// only.
type outsideName struct{ authority, name string }

// maxAuthority bounds the authorities that have a name: a DNS name and a port.
const maxAuthority = 260

// OutsideName returns the name in the authority of a request to a destination outside the
// mesh, or "". It allocates only if the authority is not that of the last request. Only one
// goroutine at a time may call it. authority may point into a buffer.
func (r *reporter) OutsideName(authority string) string {
	last := &r.outsideName
	if last.authority == authority {
		return last.name
	}
	if len(authority) > maxAuthority {
		return ""
	}
	authority = strings.Clone(authority)
	*last = outsideName{authority, tap.Hostname(authority)}
	return last.name
}
