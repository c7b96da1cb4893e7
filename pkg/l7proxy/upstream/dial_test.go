package upstream

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/ports"
)

// newPool is a pool on loopback. Its limits are those of an agent, but for what
// change sets.
func newPool(t *testing.T, change func(*Options)) *Pool {
	t.Helper()
	o := Options{
		Network: &proxytest.Network{}, State: &proxytest.State{Store: state.NewStore("node-1")},
		Log: slog.New(slog.DiscardHandler), Lifetime: lifetime.New(),
		Limits: Limits{
			Connect: 5 * time.Second, Failover: 2 * time.Second, HandshakeSilence: 3 * time.Second,
			Resolve: 5 * time.Second, Idle: time.Minute, AgentDownTTL: 5 * time.Second,
		},
		OnUnreachable: func(*Endpoint, mesh.Reason) {},
	}
	if change != nil {
		change(&o)
	}
	p := New(o)
	running := make(chan struct{})
	go func() {
		defer close(running)
		p.Run()
	}()
	t.Cleanup(func() { o.Lifetime.End(); <-running })
	return p
}

// TestPlaintextFallbackIsNotKept: the request after finds out whether the agent
// is back.
func TestPlaintextFallbackIsNotKept(t *testing.T) {
	p := newPool(t, nil)
	for status, kept := range map[string]bool{"true": true, "agent-down": false} {
		c, _ := pooledConn(t)
		key := Key{Source: status}
		p.Keep(&HTTP1Conn{Conn: c, Key: key, Result: Result{TLS: status}}, balance.Now())
		if found := p.idle.get(&key, false, new(*idleList)) != nil; found != kept {
			t.Errorf("tls=%s: kept %v, want %v", status, found, kept)
		}
	}
}

func TestConnectReasons(t *testing.T) {
	p := newPool(t, nil)
	to := func(addr netip.AddrPort) *Endpoint {
		return &Endpoint{Client: &mesh.Workload{UID: "client"}, Peer: tap.Peer{Addr: addr}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, _, err := p.Dial(ctx, to(ports.Reserve(t)), netip.AddrPort{}, ""); ReasonOf(err) != mesh.ReasonConnectRefused {
		t.Errorf("got %v, want a refused connection", err)
	}
	cancel()
	if _, _, err := p.Dial(ctx, to(netip.MustParseAddrPort("192.0.2.1:9")), netip.AddrPort{}, ""); err == nil {
		t.Error("connected with a context that is done")
	}
}
