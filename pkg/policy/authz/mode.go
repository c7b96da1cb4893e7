package authz

import (
	"fmt"
	"net/netip"
	"slices"
)

// Mode decides where no rule does. The names and meanings are those of Linkerd's
// default inbound policies. The zero Mode denies.
type Mode uint8

// The modes.
const (
	ModeDeny                   Mode = iota // nobody
	ModeAudit                              // everybody; the decision says that no rule allows it
	ModeAllUnauthenticated                 // everybody
	ModeAllAuthenticated                   // clients with an identity
	ModeClusterUnauthenticated             // clients with an address of the cluster
	ModeClusterAuthenticated               // clients with an address of the cluster and an identity

	numModes
)

var modeNames = [numModes]string{
	"deny", "audit", "all-unauthenticated", "all-authenticated", "cluster-unauthenticated", "cluster-authenticated",
}

// String returns the mode's name, as annotations have it.
func (m Mode) String() string {
	if m < numModes {
		return modeNames[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// ParseMode returns the mode of a name. With the error it returns ModeDeny.
func ParseMode(name string) (Mode, error) {
	if i := slices.Index(modeNames[:], name); i >= 0 {
		return Mode(i), nil
	}
	return ModeDeny, fmt.Errorf("authorization mode %q: want one of %q", name, modeNames)
}

// admits reports whether the mode lets the client in.
func (m Mode) admits(c *Connection, cluster []netip.Prefix) bool {
	switch m {
	case ModeAudit, ModeAllUnauthenticated:
		return true
	case ModeAllAuthenticated:
		return !c.Peer.IsZero()
	case ModeClusterUnauthenticated:
		return inAny(cluster, address(c.Client))
	case ModeClusterAuthenticated:
		return !c.Peer.IsZero() && inAny(cluster, address(c.Client))
	}
	return false
}

// address returns the form of an address that prefixes are compared with.
func address(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func inAny(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
