package quota

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
)

// Source is what a client is counted as. Clients of one source share what one source may
// have.
type Source struct {
	// Pod is the UID of a pod of this node whose own connection it is; "" for a client that
	// connects to a pod of this node.
	Pod string
	// Addr is the address of such a client; of IPv6, where a client has a whole network to
	// choose from, the /64 if it has no Identity.
	Addr netip.Addr
	// Identity is the one that the client has proved; zero: none.
	Identity mesh.Identity
}

// PodSource is the source of the connections that a pod of this node opens.
func PodSource(uid string) Source { return Source{Pod: uid} }

// ClientSource is the source of connections to pods of this node. id is the identity that
// the client has proved; the zero value if it has proved none.
func ClientSource(addr netip.Addr, id mesh.Identity) Source {
	if id == (mesh.Identity{}) {
		return Source{Addr: mesh.CountedAs(addr)}
	}
	return Source{Addr: addr.Unmap().WithZone(""), Identity: id}
}

// Proved reports whether it is known whose the source is: a pod of this node, or a client
// with an identity.
func (s Source) Proved() bool { return s.Pod != "" || s.Identity != (mesh.Identity{}) }

// agent reports whether the source is another node's agent, which sends what its clients
// do.
func (s Source) agent() bool { return s.Identity != (mesh.Identity{}) }
