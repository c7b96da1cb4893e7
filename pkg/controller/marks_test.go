package controller

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/mesh"
)

// wholeMarks marks all pods at once: what marks does for those that have changed.
type wholeMarks struct {
	pods    map[claim]enrolment
	leaving map[claim]bool
	waiting map[claim]time.Time
}

func (e *wholeMarks) mark(workloads []*mesh.Workload, services []*mesh.Service) {
	meshed := map[claim]bool{}
	there := map[claim]bool{}
	hasAgent := map[string]bool{}
	for _, w := range workloads {
		is := claim{w.UID, w.Node}
		was, claimed := e.pods[is]
		if !w.Meshed {
			e.leaving[is] = e.leaving[is] || claimed
			w.Leaving, there[is] = e.leaving[is], e.leaving[is]
			continue
		}
		if w.Enrolled || claimed {
			w.Enrolled, meshed[is], hasAgent[w.Node] = true, true, true
			was.known = true
			e.pods[is] = was
		}
	}
	maps.DeleteFunc(e.leaving, func(is claim, _ bool) bool { return !there[is] })
	waiting := map[claim]time.Time{}
	for _, w := range workloads {
		if !w.Meshed || w.Enrolled || len(w.Addrs) == 0 || !hasAgent[w.Node] {
			continue
		}
		is := claim{w.UID, w.Node}
		if waiting[is] = e.waiting[is]; waiting[is].IsZero() {
			waiting[is] = time.Now()
		}
		w.Enrolled = time.Since(waiting[is]) >= enrolWithin
	}
	e.waiting = waiting
	maps.DeleteFunc(e.pods, func(is claim, was enrolment) bool {
		return !meshed[is] && (was.known || time.Since(was.since) > unknownFor)
	})
	taken := map[netip.Addr]bool{}
	for _, w := range workloads {
		for _, a := range w.Addrs {
			taken[a] = true
		}
	}
	for _, s := range services {
		for _, a := range s.VIPs {
			taken[a] = true
		}
	}
	for _, w := range workloads {
		if len(w.Addrs) > 0 || !w.Meshed {
			continue
		}
		for _, addr := range e.pods[claim{w.UID, w.Node}].addrs {
			if addr.IsValid() && !taken[addr] {
				taken[addr] = true
				w.Addrs = append(w.Addrs, addr)
			}
		}
	}
}

// TestMarksAreThoseOfTheWhole: whatever changes and whatever agents report, pods are marked as
// if all were marked anew.
func TestMarksAreThoseOfTheWhole(t *testing.T) {
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			e, err := newEnrolments(noWriter{}, "", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ref := &wholeMarks{map[claim]enrolment{}, map[claim]bool{}, map[claim]time.Time{}}
			pods := map[string]*mesh.Workload{}
			services := map[string]*mesh.Service{}
			addr := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))}) }
			published := map[string]*mesh.Workload{}
			for step := range 80 {
				var ws []mesh.Changed[mesh.Workload]
				var ss []mesh.Changed[mesh.Service]
				uid, node := fmt.Sprint(r.IntN(5)), fmt.Sprint("n", r.IntN(2))
				switch r.IntN(8) {
				case 0, 1, 2:
					w := &mesh.Workload{UID: uid, Name: uid, Node: "n" + fmt.Sprint(int(uid[0])%2), Meshed: r.IntN(3) > 0, Enrolled: r.IntN(8) == 0}
					w.Enrolled = w.Enrolled && w.Meshed
					if r.IntN(2) == 0 {
						w.Addrs = []netip.Addr{addr()}
					}
					if r.IntN(4) == 0 {
						w = nil
					}
					if w != nil || pods[uid] != nil {
						ws = append(ws, mesh.Changed[mesh.Workload]{Before: pods[uid], After: w})
					}
					if delete(pods, uid); w != nil {
						pods[uid] = w
					}
				case 3:
					s := &mesh.Service{VIPs: []netip.Addr{addr()}}
					ss = append(ss, mesh.Changed[mesh.Service]{Before: services["s"], After: s})
					services["s"] = s
				case 4, 5, 6:
					p := control.PodStatus{UID: uid, State: []string{mesh.PodEnrolled, mesh.PodEnrolled, "", "pending"}[r.IntN(4)], Leaving: r.IntN(2) == 0}
					p.Leaving = p.Leaving && p.State == ""
					if p.State == mesh.PodEnrolled {
						p.Addrs = control.ByFamily([]netip.Addr{addr()})
					}
					e.PodsReported(node, []control.PodStatus{p})
					is := claim{uid, node}
					if p.State == "" {
						if delete(ref.leaving, is); p.Leaving {
							ref.leaving[is] = true
						}
					}
					if p.State == mesh.PodEnrolled {
						was, known := ref.pods[is]
						if !known {
							was.since = time.Now()
						}
						was.addrs = p.Addrs
						ref.pods[is] = was
					}
				case 7:
					if r.IntN(2) == 0 {
						e.AgentConnected(server.AgentInfo{Node: node})
						maps.DeleteFunc(ref.leaving, func(is claim, _ bool) bool { return is.node == node })
					} else {
						time.Sleep([]time.Duration{time.Second, enrolWithin, unknownFor + time.Second}[r.IntN(3)])
						synctest.Wait()
					}
				}
				for _, c := range e.apply(ws, ss) {
					if c.Before != nil {
						if published[c.Before.UID] != c.Before {
							t.Fatalf("seed %d, step %d: a change from what was not published", seed, step)
						}
						delete(published, c.Before.UID)
					}
					if c.After != nil {
						published[c.After.UID] = c.After
					}
				}
				var want []*mesh.Workload
				for _, uid := range slices.Sorted(maps.Keys(pods)) {
					w := *pods[uid]
					w.Addrs = slices.Clone(w.Addrs)
					want = append(want, &w)
				}
				ref.mark(want, slices.Collect(maps.Values(services)))
				if len(published) != len(want) {
					t.Fatalf("seed %d, step %d: %d are published, want %d", seed, step, len(published), len(want))
				}
				for _, w := range want {
					got := published[w.UID]
					if got.Enrolled != w.Enrolled || got.Leaving != w.Leaving || !slices.Equal(got.Addrs, w.Addrs) {
						t.Fatalf("seed %d, step %d: got %+v, want %+v", seed, step, got, w)
					}
				}
				if len(e.pods) != len(ref.pods) || len(e.leaving) != len(ref.leaving) {
					t.Fatalf("seed %d, step %d: claims %v and %v, want %v and %v", seed, step, e.pods, e.leaving, ref.pods, ref.leaving)
				}
			}
			e.mu.Lock()
			if e.timer != nil {
				e.timer.Stop()
			}
			e.mu.Unlock()
		})
		if t.Failed() {
			return
		}
	}
}
