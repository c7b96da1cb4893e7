package destination

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
)

// questionsMost bounds the questions of one pod to one authorizer that are under way.
const questionsMost = 256

// Authorizer is an external authorizer, as one pod of this node reaches it: its agent asks in
// the pod's name. Its methods are safe for concurrent use.
type Authorizer struct {
	target  *Outbound
	service mesh.ServicePortRef
	asking  atomic.Int32
	round   uint64 // of the last use
}

type authorizerKey struct {
	uid string
	dst netip.AddrPort
}

// authorizers keeps those in use, so that requests share what is known of their endpoints.
type authorizers struct {
	mu    sync.Mutex
	by    map[authorizerKey]*Authorizer
	round uint64
}

var errNoAddress = errors.New("the authorizer's Service has no cluster IP of the pod's family")

// Authorizer returns the authorizer e for requests that local, a pod of this node, makes or
// gets. It does not wait.
func (d *Directory) Authorizer(local *mesh.Workload, e *mesh.ExternalAuth) (*Authorizer, error) {
	var dst netip.AddrPort
	for _, a := range e.Addrs {
		if own := PodAddress(local, a, netip.Addr{}); own.IsValid() {
			dst = netip.AddrPortFrom(a, e.Service.Port)
			break
		}
	}
	if !dst.IsValid() {
		return nil, errNoAddress
	}
	key := authorizerKey{local.UID, dst}
	all := &d.authorizers
	all.mu.Lock()
	defer all.mu.Unlock()
	a := all.by[key]
	if a == nil || a.service != e.Service {
		a = &Authorizer{target: &Outbound{directory: d, dst: dst}, service: e.Service}
		a.target.known.Store(&knowledge{local: local})
		if all.by == nil {
			all.by = make(map[authorizerKey]*Authorizer)
		}
		all.by[key] = a
	}
	a.round = all.round
	return a, nil
}

// forget drops those that were not used in the last rounds.
func (a *authorizers) forget() {
	const rounds = 60
	a.mu.Lock()
	defer a.mu.Unlock()
	a.round++
	for key, one := range a.by {
		if a.round-one.round > rounds {
			delete(a.by, key)
		}
	}
}

// Enter counts a question and returns true, or returns false if there are as many as there
// may be. Leave ends it.
func (a *Authorizer) Enter() bool {
	if a.asking.Add(1) > questionsMost {
		a.asking.Add(-1)
		return false
	}
	return true
}

// Leave ends a question.
func (a *Authorizer) Leave() { a.asking.Add(-1) }

// Client returns the address that the authorizer sees: that of the pod.
func (a *Authorizer) Client() netip.AddrPort {
	return netip.AddrPortFrom(PodAddress(a.target.known.Load().local, a.target.dst.Addr(), netip.Addr{}), 0)
}

// Learn waits until the controller has said what the authorizer's address is, for
// Options.ResolveTimeout at most. Only the first question of a pod has to wait.
func (a *Authorizer) Learn() { a.target.look() }

// Pick chooses an endpoint of the authorizer. It may wait for the controller. The routes of
// its Service do not apply. The error is a *mesh.ReasonError.
func (a *Authorizer) Pick(at *endpoints.Attempt, exclude ...netip.AddrPort) error {
	k := a.target.look()
	if s := k.Backend.Service; s == nil || s.Namespace != a.service.Namespace || s.Name != a.service.Name {
		return mesh.Fail(mesh.ReasonNoEndpoints, fmt.Errorf("%v is not known as an address of the authorizer's Service %s/%s", a.target.dst, a.service.Namespace, a.service.Name))
	}
	return a.target.Pick(at, Query{Exclude: exclude})
}

// Asks is what has to be asked about a request, before Pick decides about it.
type Asks struct {
	Provider string // the authorizer's name
	External *mesh.ExternalAuth
	Local    *mesh.Workload // the pod that asks
}

// Asks implements Target. nil: no authorizer is asked, and Pick decides.
func (t *Inbound) Asks(client *tap.Peer, asked Asker) *Asks {
	local := t.local.Load()
	if !local.Authorized || t.fromNode {
		return nil
	}
	d := t.directory
	rules := d.State.View().Authz(local.UID)
	if !rules.Asks(t.addr.Port()) {
		return nil
	}
	f := factsPool.Get().(*facts)
	defer factsPool.Put(f)
	f.connection = authz.Connection{Peer: d.peers.of(client.Identity), Client: client.Addr.Addr(), Port: t.addr.Port()}
	f.request = asked.Asked()
	decision := rules.DecideRequest(&f.connection, &f.request)
	f.request = authz.Request{}
	if decision.Verdict != authz.Ask {
		return nil
	}
	e := rules.Authorizer(decision.Provider)
	if e == nil {
		return nil // Pick refuses what would have to be asked about
	}
	return &Asks{Provider: decision.Provider, External: e, Local: local}
}

// Asks implements Target. The routes say who is asked at the client's node.
func (t *Outbound) Asks(*tap.Peer, Asker) *Asks { return nil }

// Refused returns the entry of a request that an authorizer has refused, for tap. asked has
// the authorizer's answer.
func (t *Inbound) Refused(client *tap.Peer, asked Asker) *calls.Entry {
	local := t.local.Load()
	rules := t.directory.State.View().Authz(local.UID)
	_, entry := t.directory.decide(rules, local, t.addr.Port(), client.Identity, client.Addr.Addr(), t.fromNode, asked, &Query{})
	return entry
}

// Refused implements Target.
func (t *Outbound) Refused(*tap.Peer, Asker) *calls.Entry { return nil }

// Local returns the pod that connects.
func (t *Outbound) Local() *mesh.Workload { return t.known.Load().local }
