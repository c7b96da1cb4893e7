package destination

import (
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// Plaintext where no agent answers is for two sides that were told so, and for
// pods that were never in the mesh; for nobody who is strict or fails closed.
func TestMayFallBack(t *testing.T) {
	type settings = mesh.Settings
	told := settings{PlaintextFallback: true}
	for name, c := range map[string]struct {
		client, server  settings
		enrolled, never bool // may fall back to a server that was enrolled, or never was
	}{
		"neither told":               {settings{}, settings{}, false, true},
		"the client told":            {told, settings{}, false, true},
		"the server told":            {settings{}, told, false, true},
		"both told":                  {told, told, true, true},
		"strict client":              {settings{Policy: mesh.PolicyStrict, PlaintextFallback: true}, told, false, false},
		"strict server":              {told, settings{Policy: mesh.PolicyStrict, PlaintextFallback: true}, false, false},
		"a client that fails closed": {settings{FailClosed: true, PlaintextFallback: true}, told, false, false},
		"a server that fails closed": {told, settings{FailClosed: true, PlaintextFallback: true}, true, true}, // its kernel refuses
	} {
		for enrolled, want := range map[bool]bool{true: c.enrolled, false: c.never} {
			got := mayFallBack(&mesh.Workload{Settings: c.client}, &mesh.Workload{Settings: c.server, Enrolled: enrolled})
			if got != want {
				t.Errorf("%s, enrolled %v: got %v, want %v", name, enrolled, got, want)
			}
		}
	}
}

// What nobody uses is forgotten: a session that was idle for so long must not
// take its destination for one outside the mesh, and send in plaintext.
func TestForgottenDestinationStaysInTheMesh(t *testing.T) {
	store := state.NewStore("node-1")
	client := &mesh.Workload{UID: "client", Node: "node-1"}
	server := &mesh.Workload{UID: "server", Name: "server", Namespace: "default", Node: "node-2", Meshed: true, Addrs: []netip.Addr{netip.MustParseAddrPort("10.0.0.2:80").Addr()}}
	vip, pod := netip.MustParseAddrPort("10.9.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	name := state.ServiceName("default", "server")
	full := state.Delta{Version: 1, Synced: true, Resources: []state.Resource{
		{Name: state.WorkloadName(server.UID), Version: "1", Workload: server},
		{Name: name, Version: "1", Service: &mesh.Service{
			Name: "server", Namespace: "default", VIPs: []netip.Addr{vip.Addr()},
			Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Addr: pod, WorkloadUID: server.UID, Ready: true}}}},
		}},
	}}
	if err := store.Apply(full); err != nil {
		t.Fatal(err)
	}
	d := newDirectory(store)
	targets := map[string]*Outbound{"service": d.Outbound(client, vip, inPlace), "pod": d.Outbound(client, pod, inPlace)}
	check := func(when string) {
		t.Helper()
		for what, target := range targets {
			c, err := pick(target)
			if err != nil || c.Mode != upstream.MTLS || c.Peer.Addr != pod {
				t.Errorf("%s, %s: %+v, %v; want the mesh route to %s", when, what, c, err, pod)
			}
		}
	}
	check("at first")
	if err := store.Apply(state.Delta{Version: 2, Removed: []string{state.WorkloadName(server.UID), name}}); err != nil {
		t.Fatal(err)
	}
	check("forgotten")
	full.Version = 3
	if err := store.Apply(full); err != nil {
		t.Fatal(err)
	}
	check("asked for again")
}

// While the controller does not say whose an address is, a pod that fails closed
// sends nothing there: it might be a pod of the mesh.
func TestUnsaidDestination(t *testing.T) {
	store := state.NewStore("node-1")
	if err := store.Apply(state.Delta{Version: 1, Synced: true}); err != nil {
		t.Fatal(err)
	}
	d := newDirectory(store)
	pod := netip.MustParseAddrPort("10.0.0.2:80")
	to := func(closed bool, dst netip.AddrPort) (*endpoints.Attempt, error) {
		client := &mesh.Workload{UID: "client", Node: "node-1", Settings: mesh.Settings{FailClosed: closed}}
		return pick(d.Outbound(client, dst, inPlace))
	}
	for _, closed := range []bool{false, true} {
		if c, err := to(closed, pod); closed != (err != nil) || closed && upstream.ReasonOf(err) != mesh.ReasonTimeout {
			t.Errorf("fails closed %v: %+v, %v", closed, c, err)
		}
	}
	ranges := &state.Ranges{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}
	if err := store.Apply(state.Delta{Version: 2, Resources: []state.Resource{{Name: state.RangesName, Version: "1", Ranges: ranges}}}); err != nil {
		t.Fatal(err)
	}
	if c, err := to(false, pod); upstream.ReasonOf(err) != mesh.ReasonTimeout {
		t.Errorf("where the mesh has addresses: %+v, %v", c, err)
	}
	if c, err := to(false, netip.MustParseAddrPort("10.0.1.2:80")); err != nil || c.Mode != upstream.Plaintext {
		t.Errorf("where it has none: %+v, %v", c, err)
	}
	client := &mesh.Workload{UID: "client", Node: "node-1", Settings: mesh.Settings{FailClosed: true}}
	target := d.Outbound(client, pod, inPlace)
	server := &mesh.Workload{UID: "server", Node: "node-2", Meshed: true, Addrs: []netip.Addr{pod.Addr()}}
	if err := store.Apply(state.Delta{Version: 3, Resources: []state.Resource{{Name: state.WorkloadName(server.UID), Version: "1", Workload: server}}}); err != nil {
		t.Fatal(err)
	}
	if c, err := pick(target); err != nil || c.Mode != upstream.MTLS {
		t.Errorf("when it has said: %+v, %v", c, err)
	}
}

// What a Service says of its endpoints holds in the mesh too: the same client
// gets the same endpoint, or none but those of its own node.
func TestServiceChoosesEndpoints(t *testing.T) {
	const count = 8
	vip := netip.MustParseAddrPort("10.9.0.1:80")
	for name, c := range map[string]struct {
		svc  mesh.Service
		want int // different endpoints seen
	}{
		"plain":            {mesh.Service{}, count},
		"session affinity": {mesh.Service{SessionAffinity: true}, 1},
		"node local":       {mesh.Service{NodeLocal: true}, count / 2},
	} {
		store := state.NewStore("node-1")
		svc := c.svc
		svc.Name, svc.Namespace, svc.VIPs = "server", "default", []netip.Addr{vip.Addr()}
		svc.Ports = []mesh.ServicePort{{Port: 80}}
		delta := state.Delta{Version: 1, Synced: true}
		for i := range count {
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			w := &mesh.Workload{UID: addr.String(), Node: []string{"node-1", "node-2"}[i%2], Addrs: []netip.Addr{addr}}
			svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(addr, 80), WorkloadUID: w.UID, Ready: true})
			delta.Resources = append(delta.Resources, state.Resource{Name: state.WorkloadName(w.UID), Version: "1", Workload: w})
		}
		delta.Resources = append(delta.Resources, state.Resource{Name: state.ServiceName("default", "server"), Version: "1", Service: &svc})
		if err := store.Apply(delta); err != nil {
			t.Fatal(err)
		}
		d := newDirectory(store)
		client := &mesh.Workload{UID: "client", Node: "node-1", Addrs: []netip.Addr{netip.MustParseAddrPort("10.0.1.1:1").Addr()}}
		seen := map[netip.AddrPort]bool{}
		for range 200 {
			choice, err := pick(d.Outbound(client, vip, inPlace))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			seen[choice.Peer.Addr] = true
			if c.svc.NodeLocal && choice.Peer.Workload.Node != client.Node {
				t.Errorf("%s: sent to %s", name, choice.Peer.Workload.Node)
			}
			choice.Done()
		}
		if len(seen) != c.want {
			t.Errorf("%s: %d endpoints seen, want %d", name, len(seen), c.want)
		}
	}
}

// TestUnaskedBytes: where an external authorizer has to allow requests to a Service, bytes that are
// none do not reach it; where its routes ask nobody they do.
func TestUnaskedBytes(t *testing.T) {
	vip, pod := netip.MustParseAddrPort("10.9.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	parent := mesh.ServicePortRef{Namespace: "default", Name: "server", Port: 80}
	for asks, want := range map[bool]mesh.Reason{true: mesh.ReasonExternalDenied, false: mesh.ReasonNone} {
		store := state.NewStore("node-1")
		server := &mesh.Workload{UID: "server", Name: "server", Namespace: "default", Node: "node-2", Addrs: []netip.Addr{pod.Addr()}}
		r := &mesh.Route{Kind: "HTTPRoute", Namespace: "default", Name: "r", Parent: parent, Rules: []mesh.RouteRule{
			{Backends: []mesh.RouteBackend{{Service: parent, Weight: 1}}},
			{Matches: []mesh.RouteMatch{{Path: mesh.PathMatch{Value: "/a"}}}, Backends: []mesh.RouteBackend{{Service: parent, Weight: 1}}},
		}}
		if asks {
			r.Rules[1].Filters.External = &mesh.ExternalAuth{Service: mesh.ServicePortRef{Namespace: "auth", Name: "auth", Port: 80}}
		}
		if err := store.Apply(state.Delta{Version: 1, Synced: true, Resources: []state.Resource{
			{Name: state.WorkloadName(server.UID), Version: "1", Workload: server},
			{Name: state.ServiceName("default", "server"), Version: "1", Service: &mesh.Service{
				Name: "server", Namespace: "default", VIPs: []netip.Addr{vip.Addr()},
				Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Addr: pod, WorkloadUID: server.UID, Ready: true}}}},
			}},
			{Name: state.RouteName(r), Version: "1", Route: r},
		}}); err != nil {
			t.Fatal(err)
		}
		target := newDirectory(store).Outbound(&mesh.Workload{UID: "client", Namespace: "default", Node: "node-1"}, vip, inPlace)
		for opaque, reason := range map[bool]mesh.Reason{true: want, false: mesh.ReasonNone} {
			a := new(endpoints.Attempt)
			err := target.Pick(a, Query{Client: new(tap.Peer), Opaque: opaque})
			if err == nil {
				a.Done()
			}
			if got := upstream.ReasonOf(err); err == nil && reason != mesh.ReasonNone || err != nil && got != reason {
				t.Errorf("asks %v, opaque %v: got %v, want %v", asks, opaque, err, reason)
			}
		}
	}
}

// pick chooses an endpoint for one request.
func pick(target Target) (*endpoints.Attempt, error) {
	a := new(endpoints.Attempt)
	if err := target.Pick(a, Query{Client: new(tap.Peer)}); err != nil {
		return nil, err
	}
	return a, nil
}
