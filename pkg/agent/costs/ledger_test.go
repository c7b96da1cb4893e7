package costs

import (
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
)

// bench is a Ledger whose sources the test sets.
type bench struct {
	*Ledger
	local   []*mesh.Workload
	used    map[quota.Key]quota.Used
	process time.Duration
}

func newBench() *bench {
	b := &bench{used: make(map[quota.Key]quota.Used)}
	b.Ledger = New(Options{
		Node:  "node-1",
		Local: func() []*mesh.Workload { return b.local },
		Usage: func() iter.Seq[quota.Used] {
			var all []quota.Used
			for _, u := range b.used {
				all = append(all, u)
			}
			return slices.Values(all)
		},
	})
	b.Ledger.process = func() time.Duration { return b.process }
	return b
}

// work adds time that goroutines have worked for a pod.
func (b *bench) work(uid string, d mesh.Direction, work time.Duration) {
	key := quota.Key{UID: uid, Direction: d}
	u := b.used[key]
	u.Key, u.Weight, u.Connections = key, 100, 1
	u.Work += work
	b.used[key] = u
}

// get returns the pods' processor times in milliseconds, outbound and inbound.
func (b *bench) get(t *testing.T) map[string][2]int64 {
	t.Helper()
	time.Sleep(leastInterval)
	got := make(map[string][2]int64)
	for _, p := range b.Costs().GetPods() {
		got[p.GetNamespace()+"/"+p.GetName()] = [2]int64{millis(p.GetOutbound()), millis(p.GetInbound())}
	}
	return got
}

func millis(c *agentv1.Cost) int64 { return c.GetProcessor().AsDuration().Milliseconds() }

func pod(name string) *mesh.Workload {
	return &mesh.Workload{UID: "uid-" + name, Namespace: "shop", Name: name, Meshed: true}
}

// TestAssign: processor time is assigned to pods by the time that goroutines have worked
// for them, and no more of it in all than the process has used.
func TestAssign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.local = []*mesh.Workload{pod("web"), pod("idle"), pod("db"), {UID: "other", Namespace: "shop", Name: "unlabelled"}}
		check := func(what string, want map[string][2]int64) {
			t.Helper()
			if diff := cmp.Diff(want, b.get(t)); diff != "" {
				t.Errorf("%s: milliseconds of pods (-want +got):\n%s", what, diff)
			}
		}
		check("at the begin", map[string][2]int64{"shop/web": {}, "shop/db": {}, "shop/idle": {}})

		b.process += time.Second
		b.work("uid-web", mesh.Outbound, 300*time.Millisecond)
		b.work("uid-db", mesh.Inbound, 100*time.Millisecond)
		check("processor time to spare", map[string][2]int64{"shop/web": {300, 0}, "shop/db": {0, 100}, "shop/idle": {}})

		b.process += 200 * time.Millisecond
		b.work("uid-web", mesh.Outbound, 300*time.Millisecond)
		b.work("uid-db", mesh.Inbound, 100*time.Millisecond)
		check("a busy machine", map[string][2]int64{"shop/web": {450, 0}, "shop/db": {0, 150}, "shop/idle": {}})

		b.process += time.Second
		delete(b.used, quota.Key{UID: "uid-web", Direction: mesh.Outbound})
		b.work("uid-web", mesh.Inbound, 10*time.Millisecond)
		check("what the proxy has forgotten", map[string][2]int64{"shop/web": {0, 10}, "shop/db": {0, 150}, "shop/idle": {}})

		b.local = nil
		check("the state has forgotten the pods", map[string][2]int64{"shop/web": {0, 10}, "shop/db": {0, 150}})
		clear(b.used)
		check("the connections have ended", map[string][2]int64{})
	})
}

// TestAssignsOnceInAWhile: two readers that ask at the same time do not take processor time
// from work that is under way.
func TestAssignsOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.local = []*mesh.Workload{pod("web")}
		b.get(t)
		b.work("uid-web", mesh.Outbound, 10*time.Millisecond) // without processor time: not counted yet
		if got := millis(b.Costs().GetPods()[0].GetOutbound()); got != 0 {
			t.Errorf("at once: got %d ms, want 0", got)
		}
		b.process += 10 * time.Millisecond
		if diff := cmp.Diff(map[string][2]int64{"shop/web": {10, 0}}, b.get(t)); diff != "" {
			t.Errorf("later (-want +got):\n%s", diff)
		}
	})
}
