package server

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Changes are what has changed of a Content.
type Changes struct {
	Workloads []mesh.Changed[mesh.Workload]
	Services  []mesh.Changed[mesh.Service]
	Routes    []mesh.Changed[mesh.Route]
	Egress    []mesh.Changed[mesh.EgressNetwork]
	Authz     map[string]*authz.Spec // by UID; nil for those that are gone
	Anchors   [][]byte               // all; nil: they are the same as before
	Nodes     []netip.Addr           // all, if NodesSet
	NodesSet  bool
}

// all returns c as what has changed of nothing.
func (c *Content) all() Changes {
	return Changes{
		Workloads: added(c.Workloads), Services: added(c.Services), Routes: added(c.Routes), Egress: added(c.Egress),
		Authz: c.Authz, Anchors: c.Anchors, Nodes: c.Nodes, NodesSet: true,
	}
}

func added[T any](all []*T) []mesh.Changed[T] {
	out := make([]mesh.Changed[T], len(all))
	for i, v := range all {
		out[i].After = v
	}
	return out
}

// Keeper makes each Snapshot of the one before and of what has changed, in a time that follows
// the changes. It belongs to one goroutine.
type Keeper struct {
	last    *Snapshot
	reuse   *Snapshot // has resources to reuse, too; nil: none
	spans   spans
	limited map[string]limited        // pods with limits that nodes share, by UID
	wares   map[string]*mesh.Workload // those with policies or limits, by UID
	leads   map[string]map[string]int // parents of routes that name a service, with the number of routes
	encoded uint64

	before, now places // of the Service that an edit looks at
}

// NewKeeper returns a Keeper whose first Snapshot has version 1.
func NewKeeper() *Keeper {
	return &Keeper{last: &Snapshot{nodes: map[netip.Addr]bool{}}, spans: newSpans(), limited: map[string]limited{}, wares: map[string]*mesh.Workload{}, leads: map[string]map[string]int{}}
}

// Encoded returns how many resources were encoded since the start: a measure of work.
func (k *Keeper) Encoded() uint64 { return k.encoded }

// Apply returns the next Snapshot. Its version is that of the one before if agents get the same.
func (k *Keeper) Apply(c Changes) *Snapshot {
	next := *k.last
	next.version++
	e := &edit{
		Keeper: k, s: &next, touched: touched{version: next.version},
		byName: next.byName.Edit(), byNode: next.byNode.Edit(), byAddr: next.byAddr.Edit(), external: next.external.Edit(),
		behind: next.behind.Edit(), routed: next.routed.Edit(), backing: next.backing.Edit(), egressRouted: next.egress.routed.Edit(),
	}
	// What is gone goes first: another value may have its name.
	for _, ch := range c.Workloads {
		e.removeWorkload(ch)
	}
	for _, ch := range c.Services {
		e.removeService(ch)
	}
	for _, ch := range c.Routes {
		e.removeRoute(ch.Before)
	}
	for _, ch := range c.Workloads {
		e.addWorkload(ch)
	}
	for _, ch := range c.Services {
		e.addService(ch)
	}
	for _, ch := range c.Routes {
		e.addRoute(ch.After)
	}
	e.setAuthz(&c)
	e.setEgress(c.Egress)
	if c.NodesSet {
		e.setNodes(c.Nodes)
	}
	// Agents that have ranges and anchors get others as they get any resource. Those that have
	// none must look at everything.
	if k.spans.moved {
		k.spans.moved = false
		next.ranges = e.put(newResource(codec.EncodeRanges(k.spans.prefixes())))
		e.all = e.all || k.last.ranges == nil
	}
	if len(c.Anchors) > 0 {
		next.anchors = e.put(newResource(codec.EncodeAnchors(c.Anchors)))
		e.all = e.all || k.last.anchors == nil
	}
	e.finish()
	k.last = &next
	return &next
}
