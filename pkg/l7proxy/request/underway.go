package request

import (
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
)

// Underway is a session whose requests under way can be judged again.
type Underway interface {
	// Rejudge judges the requests under way, and ends those that are refused. It returns the
	// number of these. It does not wait for a peer, and may be called by any goroutine.
	Rejudge(judge Judge) (cut int)
	// EndIdle ends the session of a denied client in order if nothing is under way on it, so that
	// its next request gets the reason. It reports whether it does. It does not wait, and may be
	// called by any goroutine, and again.
	EndIdle() bool
}

// Judge judges a request under way on a session.
type Judge func(s *Session, u destination.Underway) destination.Rejudged

// Leaving returns what EgressNetworks look at of a request of s that is sent by a, without its head;
// nil: none is about its destination.
func Leaving(s *Session, p *Plan, a *endpoints.Attempt) *destination.Leaving {
	if s.Direction != mesh.Outbound || !s.State.View().HasEgress() || p.Egress == nil && s.Target.Egress() == nil {
		return nil
	}
	return &destination.Leaving{By: p.Egress, ByService: p.named != nil || p.Action != nil && p.Egress == nil, To: a.Peer}
}

// Bounds of the heads that are kept so that policies can judge requests again. A request
// whose head is not kept ends when policies change on which its decision may depend.
const (
	keptHead = 16 << 10 // bytes of one
	// keptFill is the part of the bytes that the pod's client may have waiting from which on
	// no further head is kept: heads are the reason for no refusal.
	keptFill = 0.25
)

// KeepsHead reports whether the head of a request, of so many bytes, is to be kept while the
// request is under way. The caller charges them to usage.
func KeepsHead(size int, usage *quota.Usage) bool {
	return size <= keptHead && usage.Fill() <= keptFill
}
