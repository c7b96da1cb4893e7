package tapapi

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestEndpointsByAddress: a ClusterIP, and an external address at its ports, lead to
// the endpoints of the Service that has them.
func TestEndpointsByAddress(t *testing.T) {
	service := func(name, vip string, port uint16, external ...netip.Addr) *mesh.Service {
		return &mesh.Service{Name: name, Namespace: "shop", VIPs: []netip.Addr{netip.MustParseAddr(vip)}, Ports: []mesh.ServicePort{{
			Port: port, External: external, Endpoints: []mesh.Endpoint{{Addr: netip.MustParseAddrPort("10.1.0.1:8080")}},
		}}}
	}
	shared := netip.MustParseAddr("192.0.2.1")
	services := []*mesh.Service{service("web", "10.96.0.1", 80, shared), service("api", "10.96.0.2", 81, shared)}
	for text, want := range map[string]string{
		"10.96.0.1:80": "web.shop", "192.0.2.1:80": "web.shop", "192.0.2.1:81": "api.shop", "[::ffff:192.0.2.1]:81": "api.shop",
		"192.0.2.1:82": "", "192.0.2.2:80": "", "10.96.0.1:81": "",
	} {
		a, err := parseAuthority(text)
		if err != nil {
			t.Fatal(err)
		}
		items, found := a.endpoints(services)
		got := ""
		for _, e := range items {
			got += e.Service
		}
		if diff := cmp.Diff(want, got); diff != "" || found != (want != "") {
			t.Errorf("%s, found %v, -want +got: %s", text, found, diff)
		}
	}
}
