package destination

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// TestSettled: connections to an opaque port of the only endpoint, in a pod of the node, are
// settled; each other circumstance leaves them to the proxy.
func TestSettled(t *testing.T) {
	opaque := mesh.Settings{OpaquePorts: []mesh.PortRange{{First: 7000, Last: 7000}}}
	endpoint := netip.MustParseAddrPort("10.0.0.2:7000")
	vip := netip.MustParseAddrPort("10.9.0.1:70")
	type set struct {
		client, server *mesh.Workload
		service        *mesh.Service
		enrolled       map[string]bool
		requests       bool // also to ports that are not opaque
	}
	requests := func(s *set) { s.requests, s.server.Settings = true, mesh.Settings{} }
	for name, tc := range map[string]struct {
		change       func(*set)
		pod, service error // why not, for the pod's address and for the Service's
	}{
		"requests, no opaque port": {requests, nil, nil},
		"requests, policies":       {func(s *set) { requests(s); s.server.Authorized = true }, errAccounted, errAccounted},
		"requests, request rules":  {func(s *set) { requests(s); s.server.RequestRules = true }, errNotHere, errNotHere},
		"requests, no endpoint":    {func(s *set) { requests(s); s.service.Ports[0].Endpoints = nil }, nil, errBalanced},
		"requests, failure accrual": {func(s *set) {
			requests(s)
			s.service.FailureAccrual = &mesh.FailureAccrual{Consecutive: 7}
		}, nil, errAccrual},
		"requests, the server logs them": {func(s *set) { requests(s); s.server.Settings.AccessLog = mesh.AccessLogJSON }, errReported, errReported},
		"requests, the client logs them": {func(s *set) { requests(s); s.client.Settings.AccessLog = mesh.AccessLogJSON }, errReported, errReported},
		"requests, the client traces them": {func(s *set) {
			requests(s)
			s.client.Settings.TraceSampling = &mesh.TraceSampling{PerMillion: 1}
		}, errReported, errReported},
		"requests, not traced": {func(s *set) { requests(s); s.client.Settings.TraceSampling = &mesh.TraceSampling{Off: true} }, nil, nil},
		"requests, an opaque port whose requests would be logged": {func(s *set) {
			s.requests, s.server.Settings.AccessLog = true, mesh.AccessLogJSON
		}, nil, nil},
		"requests, strict": {func(s *set) {
			requests(s)
			s.server.Settings.Policy = mesh.PolicyStrict
		}, nil, nil},
		"as it is": {func(*set) {}, nil, nil},
		"no opaque port": {func(s *set) {
			s.server.Settings = mesh.Settings{}
		}, errNotOpaque, errNotOpaque},
		"an opaque port of the client": {func(s *set) {
			s.server.Settings = mesh.Settings{}
			s.client.Settings.OpaquePorts = []mesh.PortRange{{First: 70, Last: 7000}}
		}, nil, nil},
		"two endpoints": {func(s *set) {
			s.service.Ports[0].Endpoints = append(s.service.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.3:7000"), Ready: true})
		}, nil, errBalanced},
		"two endpoints, one of this node, and traffic stays on it": {func(s *set) {
			s.service.NodeLocal = true
			s.service.Ports[0].Endpoints = append(s.service.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.3:7000"), Ready: true})
		}, nil, nil},
		"two endpoints, one of this node, which is preferred": {func(s *set) {
			s.service.Ports[0].Endpoints = append(s.service.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.3:7000"), Ready: true, ForNodes: []string{"node-2"}})
			s.service.Ports[0].Endpoints[0].ForNodes = []string{"node-1"}
		}, nil, nil},
		"failure accrual": {func(s *set) {
			s.service.FailureAccrual = &mesh.FailureAccrual{Consecutive: 7}
		}, nil, nil},
		"failure accrual, two endpoints, session affinity": {func(s *set) {
			s.service.FailureAccrual, s.service.SessionAffinity = &mesh.FailureAccrual{Consecutive: 7}, true
			s.service.Ports[0].Endpoints = append(s.service.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.3:7000"), Ready: true})
		}, nil, errAccrual},
		"no endpoint": {func(s *set) {
			s.service.Ports[0].Endpoints = nil
		}, nil, errNotOpaque},
		"another node":   {func(s *set) { s.server.Node = "node-2" }, errNotHere, errNotHere},
		"not meshed":     {func(s *set) { s.server.Meshed = false }, errNotHere, errNotHere},
		"not enrolled":   {func(s *set) { delete(s.enrolled, "server") }, errNotHere, errNotHere},
		"NetworkPolicy":  {func(s *set) { s.client.NetworkPolicy = true }, errNotHere, errNotHere},
		"skipped":        {func(s *set) { s.server.Settings.SkipInboundPorts = opaque.OpaquePorts }, errNotHere, errNotHere},
		"policies":       {func(s *set) { s.server.Authorized = true }, errAccounted, errAccounted},
		"limits":         {func(s *set) { s.server.Limited = true }, errAccounted, errAccounted},
		"rate limit":     {func(s *set) { s.server.Settings.RateLimit = &mesh.RateLimit{} }, errAccounted, errAccounted},
		"request rules":  {func(s *set) { s.server.RequestRules = true }, errNotHere, errNotHere},
		"ingress client": {func(s *set) { s.client.Settings.Ingress = true }, errRuled, errRuled},
		"strict":         {func(s *set) { s.server.Settings.Policy = mesh.PolicyStrict }, nil, nil},
		"strict, no identity": {func(s *set) {
			s.server.Settings.Policy, s.client.Identity = mesh.PolicyStrict, mesh.Identity{}
		}, mesh.Fail(mesh.ReasonNoIdentity, nil), mesh.Fail(mesh.ReasonNoIdentity, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			s := &set{
				client: &mesh.Workload{
					UID: "client", Node: "node-1", Meshed: true, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
					Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "web"},
				},
				server: &mesh.Workload{
					UID: "server", Node: "node-1", Meshed: true, Addrs: []netip.Addr{endpoint.Addr()}, Settings: opaque,
					Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "server"},
				},
				service: &mesh.Service{Name: "server", Namespace: "default", VIPs: []netip.Addr{vip.Addr()}, Ports: []mesh.ServicePort{{
					Port: vip.Port(), Endpoints: []mesh.Endpoint{{Addr: endpoint, WorkloadUID: "server", Ready: true}},
				}}},
				enrolled: map[string]bool{"client": true, "server": true},
			}
			tc.change(s)
			store := state.NewStore("node-1")
			if err := store.Apply(state.Delta{Version: 1, Synced: true, Resources: []state.Resource{
				{Name: state.WorkloadName("client"), Version: "1", Workload: s.client},
				{Name: state.WorkloadName("server"), Version: "1", Workload: s.server},
				{Name: state.ServiceName("default", "server"), Version: "1", Service: s.service},
			}}); err != nil {
				t.Fatal(err)
			}
			d := newDirectory(store)
			d.Network = enrolledPods(s.enrolled)
			for dst, want := range map[netip.AddrPort]error{endpoint: tc.pod, vip: tc.service} {
				got, err := d.Settled(s.client, dst, s.requests)
				if errorText(err) != errorText(want) {
					t.Errorf("%s: got %v, %v, want the error %v", dst, got.Endpoint, err, want)
				}
				if err == nil && (got.Endpoint != endpoint || got.Server.UID != "server") {
					t.Errorf("%s: got %+v, want %s of server", dst, got, endpoint)
				}
			}
			if _, err := d.Settled(s.client, netip.MustParseAddrPort("10.7.7.7:7000"), s.requests); err != errNotKnown {
				t.Errorf("an address about which nothing was said: got %v, want %v", err, errNotKnown)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// enrolledPods are the pods of this node by UID.
type enrolledPods map[string]bool

func (p enrolledPods) Enrolled(uid string) bool { return p[uid] }
func (p enrolledPods) Shared() bool             { return false }

// TestSettledAffinity: with session affinity each client is settled on the endpoint that the
// proxy picks for it, if that is a pod of the node.
func TestSettledAffinity(t *testing.T) {
	const clients, servers = 60, 3
	vip := netip.MustParseAddrPort("10.9.0.1:70")
	service := &mesh.Service{Name: "server", Namespace: "default", VIPs: []netip.Addr{vip.Addr()}, SessionAffinity: true, Ports: []mesh.ServicePort{{Port: vip.Port()}}}
	enrolled := map[string]bool{}
	var resources []state.Resource
	pod := func(name, node string, addr netip.Addr) *mesh.Workload {
		w := &mesh.Workload{
			UID: name, Name: name, Namespace: "default", Node: node, Meshed: true, Addrs: []netip.Addr{addr},
			Settings: mesh.Settings{OpaquePorts: []mesh.PortRange{{First: 7000, Last: 7000}}},
			Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: name},
		}
		enrolled[name] = node == "node-1"
		resources = append(resources, state.Resource{Name: state.WorkloadName(name), Version: "1", Workload: w})
		return w
	}
	for i := range servers {
		addr := netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
		w := pod(fmt.Sprint("server-", i), []string{"node-1", "node-1", "node-2"}[i], addr)
		service.Ports[0].Endpoints = append(service.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(addr, 7000), WorkloadUID: w.UID, Ready: true})
	}
	var from []*mesh.Workload
	for i := range clients {
		from = append(from, pod(fmt.Sprint("client-", i), "node-1", netip.AddrFrom4([4]byte{10, 0, 2, byte(i)})))
	}
	store := state.NewStore("node-1")
	resources = append(resources, state.Resource{Name: state.ServiceName("default", "server"), Version: "1", Service: service})
	if err := store.Apply(state.Delta{Version: 1, Synced: true, Resources: resources}); err != nil {
		t.Fatal(err)
	}
	d := newDirectory(store)
	d.Network = enrolledPods(enrolled)
	used := map[netip.AddrPort]int{}
	for _, c := range from {
		got, err := d.Settled(c, vip, false)
		for range 3 {
			var a endpoints.Attempt
			if err := d.Outbound(c, vip, inPlace).Pick(&a, Query{Client: new(tap.Peer), Opaque: true}); err != nil {
				t.Fatal(err)
			}
			a.Done()
			picked := a.Endpoint.Peer
			if w := picked.Workload; w.Node != "node-1" {
				if !errors.Is(err, errNotHere) {
					t.Fatalf("%s: got %v, %v, want %v: the proxy picks %s of another node", c.Name, got, err, errNotHere, w.Name)
				}
			} else if err != nil || got.Endpoint != picked.Addr || !got.Others {
				t.Fatalf("%s: got %+v, %v, and the proxy picks %s", c.Name, got, err, picked.Addr)
			}
			used[picked.Addr]++
		}
	}
	if len(used) != servers {
		t.Errorf("the clients got %v: too few endpoints to show anything", used)
	}
}
