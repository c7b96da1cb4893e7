package filter

import (
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestView checks which reports of a request each view shows. out is the report
// of the client's agent, in that of the server's.
func TestView(t *testing.T) {
	meshed := func(w *mesh.Workload) *mesh.Workload { m := *w; m.Meshed = true; return &m }
	report := func(tls string, origin tap.Origin, d mesh.Direction) *tap.Event {
		e := request()
		e.TLS, e.Origin, e.Direction = tls, origin, d
		e.Source.Workload, e.Destination.Workload = meshed(web), meshed(voting)
		if d == mesh.Inbound {
			e.Service = nil // only the client's agent knows it
		}
		return e
	}
	type seen struct{ out, in bool }
	for name, c := range map[string]struct {
		request Request
		tls     string
		origin  tap.Origin
		want    [3]seen // by Both, TargetSide, Once
	}{
		"target is the client":  {Request{Target: "deploy/web"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {true, false}, {true, false}}},
		"target is the server":  {Request{Target: "deploy/voting"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {false, true}, {false, true}}},
		"target is both":        {Request{Target: "ns/emojivoto"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {true, true}, {true, false}}},
		"no target":             {Request{}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {true, true}, {true, false}}},
		"from one to the other": {Request{Target: "deploy/web", To: "deploy/voting"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {true, false}, {true, false}}},
		"target is a service":   {Request{Target: "svc/voting-svc"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, false}, {true, false}, {true, false}}},
		"server, agent away":    {Request{Target: "deploy/voting"}, tap.TLSAgentDown, tap.FromProxy, [3]seen{{true, true}, {true, true}, {true, true}}},
		"server, same node":     {Request{Target: "deploy/voting"}, tap.TLSSameNode, tap.FromProxy, [3]seen{{true, true}, {true, true}, {true, true}}},
		"kernel, both":          {Request{Target: "ns/emojivoto"}, tap.TLSNotProxied, tap.FromKernel, [3]seen{{true, true}, {true, true}, {true, false}}},
		"kernel, server":        {Request{Target: "deploy/voting"}, tap.TLSNotProxied, tap.FromKernel, [3]seen{{true, true}, {true, true}, {true, true}}},
		"target is neither":     {Request{Target: "deploy/db"}, tap.TLSTrue, tap.FromProxy, [3]seen{}},
	} {
		for view, want := range c.want {
			c.request.View = View(view)
			f, err := New(c.request)
			if err != nil {
				t.Fatal(err)
			}
			got := seen{f.Match(report(c.tls, c.origin, mesh.Outbound)), f.Match(report(c.tls, c.origin, mesh.Inbound))}
			if got != want {
				t.Errorf("%s, view %d: %+v, want %+v", name, view, got, want)
			}
		}
	}
}

// TestViewObserved: of a request between pods that are observed on two nodes, both agents
// report, and a view that shows each once has the client's.
func TestViewObserved(t *testing.T) {
	f, err := New(Request{View: Once})
	if err != nil {
		t.Fatal(err)
	}
	client, server := *web, *voting
	client.Meshed, client.Observed, server.Meshed, server.Observed = false, true, false, true
	e := request()
	e.TLS, e.Origin, e.Source.Workload, e.Destination.Workload = tap.TLSNotProxied, tap.FromKernel, &client, &server
	for direction, want := range map[mesh.Direction]bool{mesh.Outbound: true, mesh.Inbound: false} {
		if e.Direction = direction; f.Match(e) != want {
			t.Errorf("the report of direction %v is shown: %v, want %v", direction, !want, want)
		}
	}
}

// TestLimiterTellsAgentsApart checks that equal request ids of two agents are
// different requests: each agent numbers its own.
func TestLimiterTellsAgentsApart(t *testing.T) {
	l := NewLimiter(1)
	e := request()
	end := request()
	end.Kind = tap.ResponseEnd
	if !l.Allow(1, e) || l.Allow(2, e) {
		t.Fatal("requests of agents 1 and 2: want the first admitted and the second dropped")
	}
	if l.Allow(2, end) || !l.Allow(1, end) {
		t.Error("ends of the requests of agents 2 and 1: want only the second admitted, like its start")
	}
}
