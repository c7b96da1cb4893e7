package authz

import (
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
)

// RateLimit limits the requests to some ports of a workload, each workload for itself. A
// request that is allowed has to be within Total and then within the limit of its client:
// that of the first override that has it, or else Identity, which each identity has for
// itself and all clients without one have together. A limit of 0 is none.
type RateLimit struct {
	Policy    string      // the object
	Ports     []PortRange // none: all ports
	Total     uint32      // requests a second, and at once
	Identity  uint32
	Overrides []RateOverride
}

// RateOverride is a limit that its clients share.
type RateOverride struct {
	RequestsPerSecond uint32 // 0: the clients are not limited by themselves
	Clients           []mesh.Identity
}

// RateLimit returns the limit of the requests to a port, or nil.
func (w *Workload) RateLimit(port uint16) *RateLimit {
	if w == nil {
		return nil
	}
	for i := range w.spec.RateLimits {
		if l := &w.spec.RateLimits[i]; len(l.Ports) == 0 || inRanges(l.Ports, port) {
			return l
		}
	}
	return nil
}

// Equal reports whether both limit the same clients alike, at whatever ports.
func (l *RateLimit) Equal(other *RateLimit) bool {
	return l == other || l != nil && other != nil &&
		l.Policy == other.Policy && l.Total == other.Total && l.Identity == other.Identity &&
		slices.EqualFunc(l.Overrides, other.Overrides, func(a, b RateOverride) bool {
			return a.RequestsPerSecond == b.RequestsPerSecond && slices.Equal(a.Clients, b.Clients)
		})
}

// HasRateLimit reports whether there is a limit of this policy.
func (w *Workload) HasRateLimit(policy string) bool {
	return w != nil && slices.ContainsFunc(w.spec.RateLimits, func(l RateLimit) bool { return l.Policy == policy })
}
