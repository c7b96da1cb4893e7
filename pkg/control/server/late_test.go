package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// lateStream is the stream of an agent that answers late, and that has got everything.
func lateStream(t *testing.T) (st *syncState, publish func(edit func(*mesh.Workload)) *pb.Delta) {
	k, a := NewKeeper(), pod("a", "n1", podA)
	st, err := newSyncState(newNumbers(), "n1", &pb.SyncRequest{Agent: &pb.Agent{Kinds: []string{control.KindAuthz}, LateAnswers: true}})
	if err != nil {
		t.Fatal(err)
	}
	d := st.next(k.Apply(Changes{Workloads: []mesh.Changed[mesh.Workload]{{After: a}}})).message()
	if d.AnswerWithinMs != 0 || !st.pending {
		t.Fatal("the answer to the first delta may be late")
	}
	handle(t, st, ack(d))
	return st, func(edit func(*mesh.Workload)) *pb.Delta {
		now := *a
		edit(&now)
		snap := k.Apply(Changes{Workloads: []mesh.Changed[mesh.Workload]{{Before: a, After: &now}}})
		a = &now
		return st.next(snap).message()
	}
}

// TestAnswersMayBeLate: some deltas go out before the answer to the first of them.
func TestAnswersMayBeLate(t *testing.T) {
	st, publish := lateStream(t)
	ready := func(w *mesh.Workload) { w.Ready = !w.Ready }
	var d, before *pb.Delta
	for n := 1; !st.pending; n++ {
		if n > unansweredDeltas {
			t.Fatalf("%d deltas are not answered", n)
		}
		before, d = d, publish(ready)
		if d == nil {
			t.Fatalf("nothing is sent after %d deltas", n)
		}
		if (d.AnswerWithinMs == 0) != st.pending {
			t.Fatalf("answer within %d ms, pending %v", d.AnswerWithinMs, st.pending)
		}
	}
	if publish(ready) != nil {
		t.Error("too many deltas are not answered")
	}
	refused, err := st.handle(&pb.SyncRequest{Answer: &pb.Answer{Nonce: before.Nonce, Error: "no"}})
	if refused != "no" || err != nil || !st.pending {
		t.Errorf("refused %q, pending %v, %v", refused, st.pending, err)
	}
	if refused, _ := st.handle(&pb.SyncRequest{Answer: &pb.Answer{Nonce: before.Nonce, Error: "no"}}); refused != "" {
		t.Error("an answer counts twice")
	}
	handle(t, st, ack(d))
	if d = publish(func(w *mesh.Workload) { w.Zone = "another" }); d == nil || d.AnswerWithinMs == 0 {
		t.Errorf("after the answer: %v", d)
	}
}

// TestLargeDeltasAreAnswered before the next one.
func TestLargeDeltasAreAnswered(t *testing.T) {
	st, publish := lateStream(t)
	d := publish(func(w *mesh.Workload) { w.OwnerName = strings.Repeat("x", unansweredBytes) })
	if d.AnswerWithinMs != 0 || !st.pending {
		t.Error("the answer to a large delta may be late")
	}
}

// TestAnAgentAnswersLate: a real agent gets what changes without a word in between.
func TestAnAgentAnswersLate(t *testing.T) {
	c := newController(t)
	a := pod("a", "n1", podA)
	c.publish([]*mesh.Workload{a})
	agent := c.agent("n1")
	agent.untilConnected()
	for c.server.Stats().Answers == 0 { // to the first delta
		time.Sleep(time.Millisecond)
	}
	before := c.server.Stats()
	const times = 10
	for i := range times {
		now := *a
		now.Zone = fmt.Sprint(i)
		c.publish([]*mesh.Workload{&now})
		agent.until("the change", func(v *state.View) bool {
			w, ok := v.Workload(podA)
			return ok && w.Zone == now.Zone
		})
	}
	after := c.server.Stats()
	deltas, answers := after.Deltas-before.Deltas, after.Answers-before.Answers
	if deltas != times || answers >= times {
		t.Errorf("%d answers to %d deltas, want fewer answers than %d deltas", answers, deltas, times)
	}
	if after.Behind != 0 {
		t.Errorf("%d agents are behind", after.Behind)
	}
	agent.resolve(podB) // a request for another reason has the answer with it
	for c.server.Stats().Answers == after.Answers {
		time.Sleep(time.Millisecond)
	}
}
