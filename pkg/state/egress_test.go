package state

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestEgress has the cases of Linkerd's resolve_egress_network
// (policy-controller/k8s/index/src/outbound/index/egress_network.rs) among others.
func TestEgress(t *testing.T) {
	at := func(name string, created int, ranges ...string) *mesh.EgressNetwork {
		n := &mesh.EgressNetwork{Namespace: "global", Global: true, Name: name, Created: time.Unix(int64(created), 0)}
		for _, r := range ranges {
			n.Networks = append(n.Networks, mesh.EgressRange{CIDR: netip.MustParsePrefix(r)})
		}
		return n
	}
	in := func(namespace string, n *mesh.EgressNetwork) *mesh.EgressNetwork {
		n.Namespace, n.Global = namespace, false
		return n
	}
	except := func(n *mesh.EgressNetwork, addr string) *mesh.EgressNetwork {
		n.Networks[0].Except = []netip.Prefix{netip.MustParsePrefix(addr)}
		return n
	}
	for name, tc := range map[string]struct {
		networks []*mesh.EgressNetwork
		want     string
	}{
		"none":                               {nil, ""},
		"the smallest network":               {[]*mesh.EgressNetwork{at("a", 1, "192.168.0.0/16"), at("b", 2, "192.168.0.0/24")}, "b"},
		"the smallest of each":               {[]*mesh.EgressNetwork{at("a", 1, "0.0.0.0/0", "192.168.0.4/32"), at("b", 2, "192.168.0.0/24")}, "a"},
		"the client's namespace":             {[]*mesh.EgressNetwork{in("ns", at("a", 1, "192.168.0.0/16")), at("b", 2, "192.168.0.0/24")}, "a"},
		"another namespace":                  {[]*mesh.EgressNetwork{in("other", at("a", 1, "192.168.0.0/16"))}, ""},
		"the namespace has other addresses":  {[]*mesh.EgressNetwork{in("ns", at("a", 1, "10.0.0.0/8")), at("b", 2, "192.168.0.0/24")}, ""},
		"the older one":                      {[]*mesh.EgressNetwork{at("a", 2, "192.168.0.0/16"), at("b", 1, "192.168.0.0/16")}, "b"},
		"the first by name":                  {[]*mesh.EgressNetwork{at("b", 1, "192.168.0.0/16"), at("a", 1, "192.168.0.0/16")}, "a"},
		"an exception":                       {[]*mesh.EgressNetwork{except(at("a", 1, "192.168.0.0/24"), "192.168.0.4/32"), at("b", 2, "192.168.0.0/16")}, "b"},
		"an exception leaves a larger range": {[]*mesh.EgressNetwork{except(at("a", 1, "192.168.0.0/24", "192.168.0.0/16"), "192.168.0.4/32")}, "a"},
		"no network":                         {[]*mesh.EgressNetwork{at("a", 1)}, ""},
		"another family":                     {[]*mesh.EgressNetwork{at("a", 1, "::/0")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStore("node-1")
			var resources []Resource
			for i, n := range tc.networks {
				resources = append(resources, Resource{Name: EgressName(n.Namespace, n.Name), Version: fmt.Sprint(i), Egress: n})
			}
			if err := s.Apply(Delta{Version: 1, Resources: resources}); err != nil {
				t.Fatal(err)
			}
			v := s.View()
			if v.HasEgress() != (len(tc.networks) > 0) {
				t.Errorf("HasEgress is %v", v.HasEgress())
			}
			for _, addr := range []string{"192.168.0.4", "::ffff:192.168.0.4"} {
				got := ""
				if n := v.Egress("ns", netip.MustParseAddr(addr)); n != nil {
					got = n.Name
				}
				if got != tc.want {
					t.Errorf("%s: got %q, want %q", addr, got, tc.want)
				}
			}
		})
	}
}
