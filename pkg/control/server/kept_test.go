package server

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// keptFor is after how many sessions that came to nothing an agent gives its certificate up.
const keptFor = 3

// TestCertificateIsKept while a controller restarts: an agent that connects again needs no
// token, and so nobody has to ask the API server about thousands of them.
func TestCertificateIsKept(t *testing.T) {
	c := newController(t)
	c.publish([]*mesh.Workload{pod("a", "n1", podA)})
	var tries atomic.Int32
	agent := c.agent("n1", func(o *client.Options) {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			tries.Add(1)
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	})
	agent.untilConnected()
	c.front.Stop()
	before := tries.Load()
	agent.until("has tried again some times", func(*state.View) bool { return !agent.Connected() && tries.Load() > before+2*keptFor })
	c.restart()
	c.publish([]*mesh.Workload{pod("a", "n1", podA)})
	agent.untilConnected()
	if n := c.server.Stats().Bootstrapped; n != 0 {
		t.Errorf("the agent has asked for %d certificates", n)
	}
}
