package l7proxy

import (
	"log/slog"
	"net/netip"
	"testing"

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
			var choice Choice
			choice.mesh(&mesh.Workload{Settings: c.client}, &mesh.Workload{Settings: c.server, Enrolled: enrolled})
			if choice.mayFallBack != want {
				t.Errorf("%s, enrolled %v: may fall back = %v", name, enrolled, choice.mayFallBack)
			}
		}
	}
}

// The client's tap tells why the server's agent refused; an application that
// is reached without mTLS cannot put words in its mouth.
func TestSaid(t *testing.T) {
	for tls, want := range map[string]mesh.Reason{
		tap.TLSTrue:       mesh.ReasonNoIdentity,
		tap.TLSNoIdentity: mesh.ReasonNone,
		tap.TLSSameNode:   mesh.ReasonNone,
	} {
		r := &recorder{more: make(chan struct{})}
		p := New(Options{Tap: r, State: &knownState{state.NewStore("node-1")}})
		client := &mesh.Workload{UID: "client"}
		s := &Session{
			proxy: p, Direction: mesh.Outbound, Source: tap.Peer{Workload: client},
			target: newOutboundTarget(p, client, mustAddr("10.0.0.1:80")),
		}
		var x Exchange
		x.Begin(s, 1, RequestLine{})
		x.Chose(&Choice{TLS: tls})
		x.Said("no-identity")
		x.Response(403)
		x.End(End{})
		if got := r.wait(t, tap.ResponseEnd, 0); got.Reason != want || got.Status != 403 {
			t.Errorf("tls=%s: reason %v, status %d; want %v", tls, got.Reason, got.Status, want)
		}
	}
}

// What nobody uses is forgotten: a session that was idle for so long must not
// take its destination for one outside the mesh, and send in plaintext.
func TestForgottenDestinationStaysInTheMesh(t *testing.T) {
	store := state.NewStore("node-1")
	client := &mesh.Workload{UID: "client", Node: "node-1"}
	server := &mesh.Workload{UID: "server", Name: "server", Namespace: "default", Node: "node-2", Meshed: true, Addrs: []netip.Addr{mustAddr("10.0.0.2:80").Addr()}}
	vip, pod := mustAddr("10.9.0.1:80"), mustAddr("10.0.0.2:80")
	name := state.ServiceName("default", "server")
	full := state.Delta{Version: 1, Synced: true, Resources: []state.Resource{
		{Name: state.WorkloadName(server.UID), Version: "1", Workload: server},
		{Name: name, Version: "1", Service: &state.Service{
			Name: "server", Namespace: "default", VIPs: []netip.Addr{vip.Addr()},
			Ports: []state.ServicePort{{Port: 80, Endpoints: []state.Endpoint{{Addr: pod, WorkloadUID: server.UID, Ready: true}}}},
		}},
	}}
	if err := store.Apply(full); err != nil {
		t.Fatal(err)
	}
	p := New(Options{Tap: &recorder{more: make(chan struct{})}, State: &knownState{store}, Log: slog.New(slog.DiscardHandler)})
	targets := map[string]*outboundTarget{"service": newOutboundTarget(p, client, vip), "pod": newOutboundTarget(p, client, pod)}
	check := func(when string) {
		t.Helper()
		for what, target := range targets {
			c, err := (&Session{proxy: p, target: target}).Pick(nil)
			if err != nil || c.way != wayMesh || c.Peer.Addr != pod {
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
	p := New(Options{Tap: &recorder{more: make(chan struct{})}, State: &knownState{store}, Log: slog.New(slog.DiscardHandler)})
	pod := mustAddr("10.0.0.2:80")
	pick := func(closed bool, dst netip.AddrPort) (*Choice, error) {
		client := &mesh.Workload{UID: "client", Node: "node-1", Settings: mesh.Settings{FailClosed: closed}}
		return (&Session{proxy: p, target: newOutboundTarget(p, client, dst)}).Pick(nil)
	}
	for _, closed := range []bool{false, true} {
		if c, err := pick(closed, pod); closed != (err != nil) || closed && reasonOf(err) != mesh.ReasonTimeout {
			t.Errorf("fails closed %v: %+v, %v", closed, c, err)
		}
	}
	ranges := &state.Ranges{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}
	if err := store.Apply(state.Delta{Version: 2, Resources: []state.Resource{{Name: state.RangesName, Version: "1", Ranges: ranges}}}); err != nil {
		t.Fatal(err)
	}
	if c, err := pick(false, pod); reasonOf(err) != mesh.ReasonTimeout {
		t.Errorf("where the mesh has addresses: %+v, %v", c, err)
	}
	if c, err := pick(false, mustAddr("10.0.1.2:80")); err != nil || c.way != wayPlain {
		t.Errorf("where it has none: %+v, %v", c, err)
	}
	client := &mesh.Workload{UID: "client", Node: "node-1", Settings: mesh.Settings{FailClosed: true}}
	target := newOutboundTarget(p, client, pod)
	server := &mesh.Workload{UID: "server", Node: "node-2", Meshed: true, Addrs: []netip.Addr{pod.Addr()}}
	if err := store.Apply(state.Delta{Version: 3, Resources: []state.Resource{{Name: state.WorkloadName(server.UID), Version: "1", Workload: server}}}); err != nil {
		t.Fatal(err)
	}
	if c, err := (&Session{proxy: p, target: target}).Pick(nil); err != nil || c.way != wayMesh {
		t.Errorf("when it has said: %+v, %v", c, err)
	}
}

// What a Service says of its endpoints holds in the mesh too: the same client
// gets the same endpoint, or none but those of its own node.
func TestServiceChoosesEndpoints(t *testing.T) {
	const endpoints = 8
	vip := mustAddr("10.9.0.1:80")
	for name, c := range map[string]struct {
		svc  state.Service
		want int // different endpoints seen
	}{
		"plain":            {state.Service{}, endpoints},
		"session affinity": {state.Service{SessionAffinity: true}, 1},
		"node local":       {state.Service{NodeLocal: true}, endpoints / 2},
	} {
		store := state.NewStore("node-1")
		svc := c.svc
		svc.Name, svc.Namespace, svc.VIPs = "server", "default", []netip.Addr{vip.Addr()}
		svc.Ports = []state.ServicePort{{Port: 80}}
		delta := state.Delta{Version: 1, Synced: true}
		for i := range endpoints {
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
			w := &mesh.Workload{UID: addr.String(), Node: []string{"node-1", "node-2"}[i%2], Addrs: []netip.Addr{addr}}
			svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, state.Endpoint{Addr: netip.AddrPortFrom(addr, 80), WorkloadUID: w.UID, Ready: true})
			delta.Resources = append(delta.Resources, state.Resource{Name: state.WorkloadName(w.UID), Version: "1", Workload: w})
		}
		delta.Resources = append(delta.Resources, state.Resource{Name: state.ServiceName("default", "server"), Version: "1", Service: &svc})
		if err := store.Apply(delta); err != nil {
			t.Fatal(err)
		}
		p := New(Options{Tap: &recorder{more: make(chan struct{})}, State: &knownState{store}, Log: slog.New(slog.DiscardHandler)})
		client := &mesh.Workload{UID: "client", Node: "node-1", Addrs: []netip.Addr{mustAddr("10.0.1.1:1").Addr()}}
		seen := map[netip.AddrPort]bool{}
		for range 200 {
			choice, err := (&Session{proxy: p, target: newOutboundTarget(p, client, vip)}).Pick(nil)
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
