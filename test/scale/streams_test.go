package scale

import (
	"cmp"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/scale/agents"
)

// fleet is a control plane with the streams of real agents over loopback.
type fleet struct {
	*world
	t         testing.TB
	authority *ca.Directory
	srv       *server.Server
	front     *server.Front
	addr      string
	agents    *agents.Agents
	deltas    uint64 // that the agents had when srv began to serve
}

// newFleet starts an agent on each node and waits until all have what they use: 20 Services.
func newFleet(t testing.TB, nodes int) *fleet {
	f := &fleet{t: t, world: newWorld(t, nodes, 0)}
	var err error
	if f.authority, err = ca.Open(t.TempDir(), "cluster.local"); err != nil {
		t.Fatal(err)
	}
	f.apply(translate.Diff(nil, Cluster(nodes)))
	f.snap = f.keeper.Apply(server.Changes{Anchors: anchorsOf(f.authority)})
	f.serve()
	names := make([]string, nodes)
	for i := range names {
		names[i] = nodeName(i)
	}
	pem := f.authority.AnchorsPEM()
	f.agents = agents.Start(agents.Options{
		Controllers: func() []string { return []string{f.addr} },
		Token:       func(node string) (string, error) { return f.authority.BootstrapToken(node), nil },
		Anchors:     func() ([]byte, error) { return pem, nil },
	}, names, func(i int) (out []netip.Addr) {
		for j := range 20 {
			out = append(out, ServiceAddr((i*20+j)*PodsPerService%(nodes*PodsPerNode)))
		}
		return out
	})
	t.Cleanup(func() {
		f.agents.Stop()
		f.front.Stop()
	})
	f.settle()
	return f
}

func anchorsOf(a *ca.Directory) (out [][]byte) {
	for _, c := range a.Anchors() {
		out = append(out, c.Raw)
	}
	return out
}

// serve starts a server with the present snapshot, at the address of the one before.
func (f *fleet) serve() {
	cfg, err := server.TLSConfig(f.authority, nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		f.t.Fatal(err)
	}
	f.srv = server.New(server.Options{
		Authority: f.authority, Authenticate: f.authority.Authenticate, NodeLifetime: time.Hour, WorkloadLifetime: time.Hour,
		Log: slog.New(slog.DiscardHandler),
	})
	f.srv.Publish(f.snap)
	if f.agents != nil {
		f.deltas = f.agents.Deltas()
	}
	f.front = server.NewFront(cfg, nil, f.srv.Register)
	l, err := net.Listen("tcp", cmp.Or(f.addr, "127.0.0.1:0"))
	if err != nil {
		f.t.Fatal(err)
	}
	if f.addr == "" { // agents read it later on
		f.addr = l.Addr().String()
	}
	front := f.front
	go func() { _ = front.Serve(l) }()
}

// settle waits until every agent has what it should have of the newest snapshot: nothing waits
// to be sent, and all that was sent has arrived.
func (f *fleet) settle() {
	f.t.Helper()
	if n := f.agents.Await(2*time.Minute, (*agents.Agent).Whole); n > 0 {
		f.t.Fatalf("%d of %d agents lack something", n, len(f.agents.All))
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		f.srv.Hurry()
		s := f.srv.Stats()
		behind, coming := s.Behind+s.Waiting, s.Deltas-(f.agents.Deltas()-f.deltas)
		if behind == 0 && coming == 0 {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d agents are behind, %d deltas have not arrived", behind, coming)
		}
	}
}

// wire is how many bytes an agent may get for a change, with TLS, HTTP/2 and gRPC: the budget.
var wire = map[string]float64{"a pod's readiness": 450, "an endpoint": 950, "a route": 400, "a policy": 500}

// TestStreams: what a change costs on the wire, and how many streams look at it, does not grow
// with the number of agents; and agents that connect again get what is different.
func TestStreams(t *testing.T) {
	small, large := 50, 200
	type figures struct{ looks, deltas, bytes float64 }
	measure := func(f *fleet, c change) figures {
		const times = 16
		before, received := f.srv.Stats(), f.agents.Received.Load()
		for i := range times {
			f.apply(one(c.of(f.nodes, i%2 == 0)))
			f.srv.Publish(f.snap)
			f.settle()
		}
		after := f.srv.Stats()
		return figures{
			float64(after.Looks-before.Looks) / times, float64(after.Deltas-before.Deltas) / times,
			float64(f.agents.Received.Load()-received) / times,
		}
	}
	few, many := newFleet(t, small), newFleet(t, large)
	answers := func() (n uint64) { return few.srv.Stats().Answers + many.srv.Stats().Answers }
	sent := func() (n uint64) { return few.srv.Stats().Deltas + many.srv.Stats().Deltas }
	answered, before := answers(), sent()
	for _, c := range changes {
		a, b := measure(few, c), measure(many, c)
		t.Logf("%-20s %+v, with four times the agents %+v", c.name, a, b)
		if a.deltas == 0 {
			t.Errorf("%s: nobody gets anything", c.name)
		}
		for what, v := range map[string][2]float64{
			"streams that look": {a.looks, b.looks}, "deltas": {a.deltas, b.deltas}, "bytes": {a.bytes, b.bytes},
		} {
			if v[1] > atMost*v[0] {
				t.Errorf("%s: %s: %.0f, and %.0f with four times the agents", c.name, what, v[0], v[1])
			}
		}
		each := b.bytes / b.deltas
		t.Logf("%-20s %.0f bytes for each agent that gets something", "", each)
		if each > wire[c.name] {
			t.Errorf("%s: %.0f bytes for each agent that gets something, at most %.0f are expected", c.name, each, wire[c.name])
		}
		if b.looks > 1.5*b.deltas {
			t.Errorf("%s: %.0f streams look, and %.0f get something", c.name, b.looks, b.deltas)
		}
	}
	if a, d := answers()-answered, sent()-before; a > d/2 {
		t.Errorf("%d answers to %d deltas: most can be late", a, d)
	}
	pairs(t, many)

	f := many
	first := float64(f.agents.Received.Load()) / float64(large)
	f.front.Stop()
	if n := f.agents.Await(time.Minute, func(a *agents.Agent) bool { return !a.Connected() }); n > 0 {
		t.Fatalf("%d agents have not noticed that the controller is away", n)
	}
	f.apply(one(changes[1].of(f.nodes, true))) // an endpoint is gone meanwhile
	received, start := f.agents.Received.Load(), time.Now()
	f.serve()
	f.settle()
	stats := f.srv.Stats()
	again := float64(f.agents.Received.Load()-received) / float64(large)
	t.Logf("%d agents are back after %s: %d resources, %.0f bytes for each (the first time %.0f), %d node certificates", large,
		time.Since(start).Round(time.Millisecond), stats.Resources, again, first, stats.Bootstrapped)
	if stats.Resources == 0 || stats.Resources > uint64(large)/2 {
		t.Errorf("%d resources are sent again after one has changed", stats.Resources)
	}
	if stats.Bootstrapped > 0 {
		t.Errorf("%d agents have asked for a new node certificate", stats.Bootstrapped)
	}
}

// pairs looks whether that a pod is not ready, and its EndpointSlice a moment later, are one
// delta for each agent, and one more for the pod's own.
func pairs(t *testing.T, f *fleet) {
	const times = 16
	cost := func(of ...change) float64 {
		before := f.srv.Stats()
		for i := range times {
			for _, c := range of {
				f.apply(one(c.of(f.nodes, i%2 == 0)))
				f.srv.Publish(f.snap)
			}
			f.settle()
		}
		return float64(f.srv.Stats().Deltas-before.Deltas) / times
	}
	pod, slice := changes[0], changes[1]
	alone, both := cost(slice), cost(pod, slice)
	t.Logf("%.1f deltas for an endpoint, %.1f with its pod's readiness before", alone, both)
	if both > alone+2 {
		t.Errorf("%.1f deltas for an endpoint, %.1f with its pod's readiness before", alone, both)
	}
}
