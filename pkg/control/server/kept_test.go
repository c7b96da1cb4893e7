package server

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
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

// TestRefusedCertificateIsGivenUp at once when the controller says so, as it does after its CA
// was made anew, and not only after some time in vain.
func TestRefusedCertificateIsGivenUp(t *testing.T) {
	c := newController(t)
	c.publish([]*mesh.Workload{pod("a", "n1", podA)})
	var authority atomic.Pointer[ca.Directory]
	authority.Store(c.authority)
	agent := c.agent("n1", func(o *client.Options) {
		o.Token = func() (string, error) { return authority.Load().BootstrapToken("n1"), nil }
		o.Anchors = func() ([]byte, error) { return authority.Load().AnchorsPEM(), nil }
	})
	agent.untilConnected()
	before, err := agent.NodeCertificate()
	if err != nil {
		t.Fatal(err)
	}
	c.dir = t.TempDir()
	c.restart()
	authority.Store(c.authority)
	c.publish([]*mesh.Workload{pod("a", "n1", podA)})
	agent.until("has another certificate and a stream", func(*state.View) bool {
		now, err := agent.NodeCertificate()
		return err == nil && now != before && agent.Connected()
	})
}
