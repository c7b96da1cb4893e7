package server

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/state"
)

// TestLeases: agents of a controller that does not lead get their leases from the leader, and
// from the next one when that leads no more.
func TestLeases(t *testing.T) {
	var leads atomic.Int32 // 1 or 2
	leads.Store(2)
	var addr [3]string
	leader := func(i int32) func() (bool, string) {
		return func() (bool, string) { now := leads.Load(); return now == i, addr[now] }
	}
	first := newController(t, func(c *controller) { c.leader = leader(1) })
	second := newController(t, func(c *controller) { c.dir, c.leader = first.dir, leader(2) })
	addr[1], addr[2] = first.addr, second.addr

	a, b := pod("a", "n1", podA), pod("b", "n2", podB)
	a.Limited, b.Limited = true, true
	of := []authz.Limit{{Policy: "p", Name: "l", Number: 1, Requests: 100, Burst: 100, Per: time.Second, Nodes: 2}}
	content := Content{
		Workloads: []*mesh.Workload{a, b}, Anchors: first.server.anchors(),
		Authz: map[string]*authz.Spec{a.UID: {Limits: of}, b.UID: {Limits: of}},
	}
	for _, c := range []*controller{first, second} {
		c.server.Publish(NewSnapshot(1, content, nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = c.server.Lend(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}

	start := time.Now()
	now := func() time.Duration { return time.Hour + time.Since(start) }
	tables := map[string]*lease.Table{}
	for _, node := range []string{"n1", "n2"} {
		table := lease.NewTable()
		tables[node] = table
		agent := first.agent(node, func(o *client.Options) {
			o.Limits = &client.Limits{Table: table, Now: now, Needed: func() bool { return true }}
		})
		agent.until("the limit", func(v *state.View) bool {
			return len(v.Authz("uid-"+map[string]string{"n1": "a", "n2": "b"}[node]).Limits()) == 1
		})
	}
	use := func() lease.Use {
		var v lease.Value
		pool := tables["n1"].Pool(lease.Limit{Name: of[0].FullName(), Rate: 100, Burst: 100, Nodes: 2})
		pool.Take(now(), mesh.Identity{}, &v)
		return tables["n1"].List(now())[0]
	}
	until := func(what string, cond func(lease.Use) bool) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for {
			u := use()
			if cond(u) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not within 30 s: %s; have %+v", what, u)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if u := use(); u.Rate != 50 || u.Leased {
		t.Errorf("before the first lease: %+v, want the node's half", u)
	}
	until("what the other node does not use", func(u lease.Use) bool { return u.Leased && u.Rate > 95 })
	leads.Store(1)
	until("the node's half, when nobody lends", func(u lease.Use) bool { return !u.Leased && u.Rate == 50 })
	until("a lease of the next leader", func(u lease.Use) bool { return u.Leased && u.Rate > 95 })
	if ledger, _, _ := second.server.lender.current(); ledger != nil {
		t.Error("the controller that leads no more has a Ledger")
	}
	leads.Store(0)
	until("the node's half, when it is not known who leads", func(u lease.Use) bool { return !u.Leased && u.Rate == 50 })
}
