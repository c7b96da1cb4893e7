package l7proxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
)

// lostNetwork reaches no endpoint, and records the times of the dials.
type lostNetwork struct {
	proxytest.Network
	began time.Time
	mu    sync.Mutex
	dials map[netip.AddrPort][]time.Duration
}

func (n *lostNetwork) Dial(_ context.Context, _ string, dst netip.AddrPort) (*rawio.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[dst] = append(n.dials[dst], time.Since(n.began))
	return nil, unix.ETIMEDOUT
}

// awayEnv is a proxy whose service has endpoints 1 to 3, 1 and 2 on one node.
func awayEnv(t *testing.T) (*Proxy, *lostNetwork, *request.Session) {
	store := state.NewStore("node-1")
	svc := &mesh.Service{
		Name: "server", Namespace: "default", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
		Ports: []mesh.ServicePort{{Port: 80}},
	}
	delta := state.Delta{Version: 1, Synced: true}
	for i, node := range []string{"node-2", "node-2", "node-3"} {
		addr := portOf(i + 1)
		w := &mesh.Workload{UID: addr.String(), Node: node}
		svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, mesh.Endpoint{Addr: addr, WorkloadUID: w.UID, Ready: true})
		delta.Resources = append(delta.Resources, state.Resource{Name: state.WorkloadName(w.UID), Version: "1", Workload: w})
	}
	delta.Resources = append(delta.Resources, state.Resource{Name: state.ServiceName("default", "server"), Version: "1", Service: svc})
	if err := store.Apply(delta); err != nil {
		t.Fatal(err)
	}
	network := &lostNetwork{began: time.Now(), dials: map[netip.AddrPort][]time.Duration{}}
	p := New(Options{
		Network: network, State: &proxytest.State{Store: store}, Log: slog.New(slog.DiscardHandler),
		Tap: proxytest.NewRecorder(),
	})
	client := &mesh.Workload{UID: "client", Node: "node-1", Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.1")}}
	target := p.directory.Outbound(client, netip.MustParseAddrPort("10.9.0.1:80"), func(wait func()) { wait() })
	return p, network, sessionOf(p, nil, target)
}

// fail makes one request to an endpoint of node fail.
func fail(t *testing.T, s *request.Session, node string, why mesh.Reason) netip.AddrPort {
	t.Helper()
	for range 1000 {
		c := new(endpoints.Attempt)
		if err := s.Pick(c, nil); err != nil {
			t.Fatal(err)
		}
		if c.Peer.Workload.Node == node {
			c.Failed(why)
			c.Done()
			return c.Peer.Addr
		}
		c.Done()
	}
	t.Fatalf("no endpoint of %s is picked", node)
	return netip.AddrPort{}
}

// TestEjectionProbes: the probes become rarer, and another endpoint of the same
// node is probed when one does not answer.
func TestEjectionProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, network, s := awayEnv(t)
		addr := fail(t, s, "node-2", mesh.ReasonConnectTimeout)
		time.Sleep(5 * time.Minute)
		stop(p)
		neighbour := portOf(1)
		if addr == neighbour {
			neighbour = portOf(2)
		}
		if at := network.dials[neighbour]; len(at) == 0 || at[0] > time.Millisecond {
			t.Errorf("the other endpoint of the node was dialled at %v", at)
		}
		want := []time.Duration{1, 3, 7, 15, 31, 63, 123, 183, 243}
		got := network.dials[addr]
		if len(got) < len(want)-2 {
			t.Errorf("dialled at %v", got)
		}
		for i := range min(len(got), len(want)) { // a quarter is added by chance
			if got[i] < want[i]*time.Second || got[i] > want[i]*time.Second*5/4 {
				t.Errorf("dial %d at %v", i, got[i])
			}
		}
		if diff := cmp.Diff(map[string]uint64{"unreachable": 2, "failures": 0}, p.Ejections()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"unreachable", "unreachable"}, []string{p.Ejected()[0].Cause, p.Ejected()[1].Cause}); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]endpoints.Count{{Namespace: "default", Service: "server", Port: 80, In: 1, Ejected: 2}}, p.Endpoints()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestEjectionEnds: an ejection ends with the endpoint, and after an hour in any case.
func TestEjectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, network, s := awayEnv(t)
		fail(t, s, "node-3", mesh.ReasonConnectRefused)
		time.Sleep(time.Hour + 2*time.Minute) // the limit of an ejection, and of the time between two probes
		if n := len(p.Ejected()); n != 0 {
			t.Errorf("%d are out after an hour", n)
		}
		addr := fail(t, s, "node-3", mesh.ReasonConnectRefused)
		before := len(network.dials[addr])
		svc, port, _ := p.State.View().Service(netip.MustParseAddrPort("10.9.0.1:80"))
		p.endpoints.Balancer(svc, port, &mesh.Workload{UID: "client", Node: "node-1"}, true, 1).Update(1, nil, nil, true)
		time.Sleep(time.Hour)
		if n := len(network.dials[addr]) - before; n != 0 {
			t.Errorf("%d dials of what is no endpoint any more", n)
		}
		stop(p)
	})
}

// TestWhatEjects: a failure that says nothing about the endpoint does not eject it.
func TestWhatEjects(t *testing.T) {
	for why, want := range map[mesh.Reason]uint64{
		mesh.ReasonClientReset: 0, mesh.ReasonBadRequest: 0, mesh.ReasonNoCertificate: 0, mesh.ReasonOverload: 0,
		mesh.ReasonUpstreamReset: 0, mesh.ReasonTimeout: 0, mesh.ReasonBadResponse: 0, mesh.ReasonResponseHeader: 0,
		mesh.ReasonConnectRefused: 1, mesh.ReasonConnectFailed: 1, mesh.ReasonTLSIdentity: 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			p, _, s := awayEnv(t)
			fail(t, s, "node-3", why)
			if n := p.Ejections()["unreachable"]; n != want {
				t.Errorf("%v: %d ejected, want %d", why, n, want)
			}
			stop(p)
		})
	}
}

// TestLocalFaultEjectsNothing: an endpoint is not ejected when its client goes away
// during the dial, nor when this process has no descriptors left.
func TestLocalFaultEjectsNothing(t *testing.T) {
	p, _, s := awayEnv(t)
	t.Cleanup(func() { stop(p) })
	c := new(endpoints.Attempt)
	if err := s.Pick(c, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.DialOpaque(ctx, c); err == nil {
		t.Fatal("connected")
	}
	c.Done()
	if n := p.Ejections()["unreachable"]; n != 0 {
		t.Error("ejected for a client that went away")
	}
	if !upstream.LocalFault(mesh.Fail(mesh.ReasonConnectFailed, errors.Join(unix.EMFILE))) || upstream.LocalFault(unix.ETIMEDOUT) {
		t.Error("whose fault it is")
	}
	if err := s.Pick(c, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DialOpaque(t.Context(), c); err == nil {
		t.Fatal("connected")
	}
	c.Done()
	if n := p.Ejections()["unreachable"]; n == 0 {
		t.Error("not ejected although nobody answers")
	}
}

// stop ends a proxy that does not run.
func stop(p *Proxy) {
	p.lifetime.End()
	p.endpoints.Wait()
}
