package controller

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// meshedPods are labelled pods of node-2.
func meshedPods(uids ...string) (list []*mesh.Workload) {
	for _, uid := range uids {
		list = append(list, &mesh.Workload{UID: uid, Node: "node-2", Meshed: true})
	}
	return list
}

// A pod that was enrolled stays so while it is there and labelled, whatever its
// agent says later, and over a restart.
func TestEnrolments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "enrolled.json")
		open := func() *enrolments {
			e, err := newEnrolments(noWriter{}, path, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		e := open()
		expect := func(when string, want bool, pods ...*mesh.Workload) {
			t.Helper()
			e.mark(pods)
			for _, w := range pods {
				if w.Enrolled != want {
					t.Errorf("%s: enrolled %v", when, w.Enrolled)
				}
			}
		}
		say := func(node, state string) { e.PodsReported(node, []control.PodStatus{{UID: "a", State: state}}) }
		expect("at first", false, meshedPods("a")...)
		say("node-2", "pending")
		expect("pending", false, meshedPods("a")...)
		say("node-1", "enrolled")
		expect("by a node that it is not on", false, meshedPods("a")...)
		say("node-2", "enrolled")
		say("node-1", "enrolled")
		expect("before the source knows it", false)
		expect("enrolled", true, meshedPods("a")...)
		say("node-2", "failed")
		e.AgentDisconnected("node-2")
		say("node-1", "enrolled")
		expect("another node claims it", true, meshedPods("a")...)
		expect("its agent is away", true, meshedPods("a")...)
		e = open()
		expect("after a restart", true, meshedPods("a")...)
		annotated := meshedPods("b")
		annotated[0].Enrolled = true
		expect("by annotation", true, append(annotated, meshedPods("a")...)...)
		expect("the annotation is gone", true, meshedPods("a", "b")...)

		unlabelled := meshedPods("a")
		unlabelled[0].Meshed = false
		expect("without its label", false, unlabelled...)
		expect("labelled again", false, meshedPods("a", "b")...)
		say("node-2", "enrolled")
		time.Sleep(2 * unknownFor)
		expect("never seen", false)
		expect("seen far too late", false, meshedPods("a")...)
		e = open()
		expect("all are gone, after a restart", false, meshedPods("a", "b")...)
	})
}

// An agent's word on its pod reaches the other nodes, and outlives what it says
// later and the controller.
func TestEnrolledReachesOtherNodes(t *testing.T) {
	p := start(t, shop)
	client, store := p.agent("node-1")
	server, _ := p.agent("node-2")
	addr := netip.MustParseAddr("10.1.0.2")
	enrolled := func(v *state.View) bool { w, ok := v.Workload(addr); return ok && w.Enrolled }
	resolve(t, client, addr)
	if _, ok := store.View().Workload(addr); !ok || enrolled(store.View()) {
		t.Error("not known, or enrolled although no agent has said so")
	}
	server.ReportPods([]control.PodStatus{{UID: "shop/db", State: "enrolled"}})
	p.until(store, "that the pod is enrolled", enrolled)

	server.ReportPods(nil) // as an agent does that has just started
	p.stop()
	p.run()
	anew, store := p.agent("node-3")
	resolve(t, anew, addr)
	if !enrolled(store.View()) {
		t.Error("a controller that was started anew has forgotten who was enrolled")
	}
}

// TestReportedAddresses: an agent has the address of a pod that has just started before
// the cluster has it. Until then the agent's report counts, unless the address belongs to
// another pod or a Service, or the agent is not the one of the pod's node.
func TestReportedAddresses(t *testing.T) {
	e, err := newEnrolments(noWriter{}, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	own, v6, taken, vip, external := netip.MustParseAddr("10.1.0.7"), netip.MustParseAddr("fd00::7"),
		netip.MustParseAddr("10.1.0.8"), netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("192.0.2.1")
	report := func(node, state string, addrs ...netip.Addr) {
		e.PodsReported(node, []control.PodStatus{{UID: "a", State: state, Addrs: control.ByFamily(addrs)}})
	}
	expect := func(when string, known []netip.Addr, want ...netip.Addr) {
		t.Helper()
		pods := append(meshedPods("a", "b"), &mesh.Workload{UID: "plain", Node: "node-2", HostNetwork: true})
		pods[0].Addrs, pods[1].Addrs = known, []netip.Addr{taken}
		services := []*mesh.Service{{VIPs: []netip.Addr{vip}, Ports: []mesh.ServicePort{{External: []netip.Addr{external}}}}}
		e.markWith(pods, services)
		if !slices.Equal(pods[0].Addrs, want) || len(pods[1].Addrs) != 1 || len(pods[2].Addrs) != 0 {
			t.Errorf("%s: got %v, want %v; other pods %v %v", when, pods[0].Addrs, want, pods[1].Addrs, pods[2].Addrs)
		}
	}
	report("node-1", "enrolled", own)
	expect("another node's report", nil)
	report("node-2", "pending", own)
	expect("not enrolled", nil)
	<-e.changed
	report("node-2", "enrolled", own, v6)
	<-e.changed
	expect("reported", nil, own, v6)
	expect("the cluster knows it", []netip.Addr{v6}, v6)
	report("node-2", "enrolled", own, v6)
	select {
	case <-e.changed:
		t.Error("the same report is published again")
	default:
	}
	for _, addr := range []netip.Addr{taken, vip, external} {
		report("node-2", "enrolled", addr)
		<-e.changed
		expect("an address of another", nil)
	}
	report("node-2", "enrolled", own)
	e.AgentDisconnected("node-2")
	expect("its agent is away", nil, own)
	e.mark(nil)
	expect("the pod was gone meanwhile", nil)
}

// TestReportedAddressReachesOtherNodes: the node of a server learns of a pod's address
// before the cluster does.
func TestReportedAddressReachesOtherNodes(t *testing.T) {
	p := start(t, shop)
	p.write("new.yaml", `
apiVersion: v1
kind: Pod
metadata: {name: new, namespace: shop, labels: {underlane.io/mesh: enabled}}
spec: {nodeName: node-1, containers: [{name: main}]}
`)
	client, store := p.agent("node-1")
	server, atServer := p.agent("node-2")
	addr := netip.MustParseAddr("10.1.0.77")
	resolve(t, server, addr)
	p.until(store, "the pod", func(v *state.View) bool { _, ok := v.WorkloadByUID("shop/new"); return ok })
	client.ReportPods([]control.PodStatus{{UID: "shop/new", State: "enrolled", Addrs: control.ByFamily([]netip.Addr{addr})}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := server.Await(ctx, addr, func(v *state.View) bool { w, ok := v.Workload(addr); return ok && w.Name == "new" }); err != nil {
		t.Errorf("%v; the node knows %+v", err, atServer.View().Dump().Workloads)
	}
}

// TestLeaving: a pod that has lost its label may use its identity until its agent carries
// nothing of it any more.
func TestLeaving(t *testing.T) {
	e, err := newEnrolments(noWriter{}, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	say := func(node string, s control.PodStatus) {
		s.UID = "a"
		e.PodsReported(node, []control.PodStatus{s})
	}
	expect := func(when string, meshed, want bool) {
		t.Helper()
		pods := meshedPods("a")
		pods[0].Meshed = meshed
		e.mark(pods)
		if pods[0].Leaving != want {
			t.Errorf("%s: leaving %v, want %v", when, pods[0].Leaving, want)
		}
	}
	expect("never enrolled", false, false)
	say("node-2", control.PodStatus{State: "enrolled"})
	expect("enrolled", true, false)
	expect("the label is gone", false, true)
	say("node-1", control.PodStatus{})
	expect("another node says that it has left", false, true)
	say("node-2", control.PodStatus{Leaving: true})
	expect("its agent has connections of it", false, true)
	e.AgentConnected(server.AgentInfo{Node: "node-2"})
	say("node-2", control.PodStatus{Leaving: true})
	expect("its agent has reconnected", false, true)
	say("node-2", control.PodStatus{})
	expect("it has left", false, false)
	say("node-1", control.PodStatus{Leaving: true})
	expect("another node's word", false, false)

	say("node-2", control.PodStatus{State: "enrolled"})
	expect("enrolled again", true, false)
	expect("the label is gone again", false, true)
	e.AgentConnected(server.AgentInfo{Node: "node-2"})
	expect("its agent has reconnected and has nothing of it", false, false)
	say("node-2", control.PodStatus{State: "enrolled"})
	expect("enrolled once more", true, false)
	expect("the label is gone once more", false, true)
	e.mark(nil)
	expect("a pod of this name comes anew", false, false)
}

// A labelled pod that its agent does not enrol may be reached in plaintext for a while, as
// before it had the label, and not for ever. On a node without an agent it may.
func TestOverdueEnrolment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := newEnrolments(noWriter{}, "", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		expect := func(when string, enrolled ...string) {
			t.Helper()
			pods := meshedPods("old", "new", "unstarted", "alone", "plain")
			for i, w := range pods {
				w.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})}
			}
			pods[2].Addrs, pods[3].Node, pods[4].Meshed = nil, "node-3", false
			e.mark(pods)
			var got []string
			for _, w := range pods {
				if w.Enrolled {
					got = append(got, w.UID)
				}
			}
			if !slices.Equal(got, enrolled) {
				t.Errorf("%s: got %v enrolled, want %v", when, got, enrolled)
			}
		}
		quiet := func() {
			t.Helper()
			synctest.Wait()
			select {
			case <-e.changed:
				t.Error("a change is announced, want none")
			default:
			}
		}
		expect("no agent has said anything")
		time.Sleep(2 * enrolWithin)
		quiet()
		expect("there is still no agent")
		e.PodsReported("node-2", []control.PodStatus{{UID: "old", State: "enrolled"}})
		<-e.changed
		expect("the node has an agent", "old")
		time.Sleep(enrolWithin - time.Second)
		quiet()
		expect("the new pod has some time left", "old")
		<-e.changed
		expect("its time is over", "old", "new")
		time.Sleep(2 * enrolWithin)
		quiet()
		expect("and stays so", "old", "new")
		e.mark(meshedPods("old"))
		expect("a pod of this name comes anew", "old")
		e.mark(nil)
		time.Sleep(2 * enrolWithin)
		quiet()
	})
}

// mark sets Enrolled, Leaving and the addresses of all pods that there are.
func (e *enrolments) mark(pods []*mesh.Workload) { e.markWith(pods, nil) }

// markWith is mark with all services.
func (e *enrolments) markWith(pods []*mesh.Workload, services []*mesh.Service) {
	before := map[string]*mesh.Workload{}
	for uid, p := range e.marks.pods {
		before[uid] = p.plain
	}
	var changed []mesh.Changed[mesh.Workload]
	for _, w := range pods {
		plain := *w
		changed = append(changed, mesh.Changed[mesh.Workload]{Before: before[w.UID], After: &plain})
		delete(before, w.UID)
	}
	for _, w := range before {
		changed = append(changed, mesh.Changed[mesh.Workload]{Before: w})
	}
	e.marks.held = map[netip.Addr]int{}
	for _, c := range changed {
		if c.Before != nil {
			e.marks.hold(c.Before.Addrs, 1)
		}
	}
	var have []mesh.Changed[mesh.Service]
	for _, s := range services {
		have = append(have, mesh.Changed[mesh.Service]{After: s})
	}
	e.apply(changed, have)
	for _, w := range pods {
		*w = *e.marks.pods[w.UID].out
	}
}
