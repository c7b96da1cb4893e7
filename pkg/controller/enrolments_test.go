package controller

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/control"
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
