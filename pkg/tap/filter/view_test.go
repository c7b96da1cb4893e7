package filter

import (
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Which of the reports of one request each view shows: out is the client's
// agent's, in the server's.
func TestView(t *testing.T) {
	meshed := func(w *mesh.Workload) *mesh.Workload { m := *w; m.Meshed = true; return &m }
	report := func(tls string, origin tap.Origin, d mesh.Direction) *tap.Event {
		e := request()
		e.TLS, e.Origin, e.Direction = tls, origin, d
		e.Source.Workload, e.Destination.Workload = meshed(web), meshed(voting)
		if d == mesh.Inbound {
			e.Service = nil // only clients know
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
		"of the client":          {Request{Target: "deploy/web"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {true, false}, {true, false}}},
		"of the server":          {Request{Target: "deploy/voting"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {false, true}, {false, true}}},
		"of both":                {Request{Target: "ns/emojivoto"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {true, true}, {true, false}}},
		"of everybody":           {Request{}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {true, true}, {true, false}}},
		"from one to the other":  {Request{Target: "deploy/web", To: "deploy/voting"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, true}, {true, false}, {true, false}}},
		"of a service":           {Request{Target: "svc/voting-svc"}, tap.TLSTrue, tap.FromProxy, [3]seen{{true, false}, {true, false}, {true, false}}},
		"server, agent away":     {Request{Target: "deploy/voting"}, tap.TLSAgentDown, tap.FromProxy, [3]seen{{true, true}, {true, true}, {true, true}}},
		"server, same node":      {Request{Target: "deploy/voting"}, tap.TLSSameNode, tap.FromProxy, [3]seen{{true, true}, {true, true}, {true, true}}},
		"kernel, both":           {Request{Target: "ns/emojivoto"}, tap.TLSPassed, tap.FromKernel, [3]seen{{true, true}, {true, true}, {true, false}}},
		"kernel, of the server":  {Request{Target: "deploy/voting"}, tap.TLSPassed, tap.FromKernel, [3]seen{{true, true}, {true, true}, {true, true}}},
		"neither, whatever view": {Request{Target: "deploy/db"}, tap.TLSTrue, tap.FromProxy, [3]seen{}},
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

// Agents number their requests without regard to one another.
func TestLimiterTellsAgentsApart(t *testing.T) {
	l := NewLimiter(1)
	e := request()
	end := request()
	end.Kind = tap.ResponseEnd
	if !l.Allow(1, e) || l.Allow(2, e) {
		t.Fatal("want the first request let through, and the second held back")
	}
	if l.Allow(2, end) || !l.Allow(1, end) {
		t.Error("the end of one agent's request was taken for the other's")
	}
}
