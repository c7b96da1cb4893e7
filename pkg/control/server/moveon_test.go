package server

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// TestMoveOn: agents that are asked to connect again do so at once and get nothing anew, and
// those who wait for the state do not see it.
func TestMoveOn(t *testing.T) {
	var joined atomic.Int32
	c := newController(t, func(c *controller) { c.observer = &counting{joined: &joined} })
	b := pod("b", "n2", podB)
	c.publish([]*mesh.Workload{pod("a", "n1", podA), b}, serviceOf(b))
	agent := c.agent("n1")
	agent.untilConnected()
	agent.resolve(vip)
	if n := c.server.MoveOn(10); n != 1 {
		t.Fatalf("%d streams were asked", n)
	}
	resources := c.server.Stats().Resources
	for deadline := time.Now().Add(10 * time.Second); joined.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the agent does not connect again")
		}
		if !agent.Connected() {
			t.Fatal("the agent says that it has no controller")
		}
	}
	c.publish([]*mesh.Workload{pod("a", "n1", podA), pod("c", "n2", podC)})
	agent.until("the new stream has what changes", func(v *state.View) bool { return !v.Answered(podC) && v.Synced() && agent.Connected() })
	agent.resolve(podC)
	if n := c.server.Stats().Resources - resources; n > 3 { // the address, its pod, and another range
		t.Errorf("%d resources were sent", n)
	}
	if n := c.server.Stats().Bootstrapped; n != 1 {
		t.Errorf("%d node certificates", n)
	}
}

type counting struct{ joined *atomic.Int32 }

func (c *counting) AgentConnected(AgentInfo)                 { c.joined.Add(1) }
func (c *counting) AgentDisconnected(string)                 {}
func (c *counting) PodsReported(string, []control.PodStatus) {}
