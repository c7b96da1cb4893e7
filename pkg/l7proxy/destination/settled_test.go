package destination

import (
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
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
	}
	for name, tc := range map[string]struct {
		change       func(*set)
		pod, service error // why not, for the pod's address and for the Service's
	}{
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
				got, err := d.Settled(s.client, dst)
				if errorText(err) != errorText(want) {
					t.Errorf("%s: got %v, %v, want the error %v", dst, got.Endpoint, err, want)
				}
				if err == nil && (got.Endpoint != endpoint || got.Server.UID != "server") {
					t.Errorf("%s: got %+v, want %s of server", dst, got, endpoint)
				}
			}
			if _, err := d.Settled(s.client, netip.MustParseAddrPort("10.7.7.7:7000")); err != errNotKnown {
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
