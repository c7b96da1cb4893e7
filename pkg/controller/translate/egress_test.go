package translate

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// TestEgressNetworks: what is not understood is refused, and the condition says so.
func TestEgressNetworks(t *testing.T) {
	for spec, want := range map[string]struct {
		deny    bool
		unknown string // part of it
		in, out []string
	}{
		`{"trafficPolicy":"Allow"}`: {false, "", []string{"192.0.2.1", "2001:db8::1"}, []string{"10.1.1.1", "172.16.0.1", "fd00::1", "100.64.0.1"}},
		`{"trafficPolicy":"Deny","networks":[{"cidr":"10.0.0.0/8","except":["10.1.0.0/16","10.2.2.2"]}]}`: {true, "", []string{"10.3.0.1", "10.2.2.3"}, []string{"10.1.1.1", "10.2.2.2", "192.0.2.1"}},
		`{"trafficPolicy":"Deny","networks":[]}`:                                                          {true, "", nil, []string{"192.0.2.1"}},
		`{"trafficPolicy":"deny"}`:                                                                        {true, `"deny" is neither`, []string{"192.0.2.1"}, nil},
		`{"trafficPolicy":"Allow","action":"x"}`:                                                          {true, `unknown field "action"`, []string{"192.0.2.1"}, nil},
		`{"trafficPolicy":"Allow","networks":[{"cidr":"nowhere"}]}`:                                       {true, `"nowhere" is neither`, []string{"192.0.2.1"}, nil},
		`{"trafficPolicy":"Allow","networks":[{"cidr":"10.0.0.0/8","except":["::/129"]}]}`:                {true, `"::/129" is neither`, []string{"10.1.1.1"}, []string{"192.0.2.1"}},
		`{"trafficPolicy":"Allow","networks":[{"cidr":"10.0.0.0/8","ports":[80]}]}`:                       {true, `unknown field`, []string{"10.1.1.1"}, nil},
		`{"trafficPolicy":7}`: {true, "spec", []string{"192.0.2.1"}, nil},
		``:                    {true, "spec", []string{"192.0.2.1"}, nil},
	} {
		r := Translate(&Objects{EgressNetworks: []*custom.EgressNetwork{{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd-egress", Name: "n"}, Spec: json.RawMessage(spec)}}}, "td")
		if len(r.Egress) != 1 || len(r.RouteStatuses) != 1 {
			t.Fatalf("%s: %+v", spec, r)
		}
		n, condition := r.Egress[0], r.RouteStatuses[0].Parents[0].Conditions[0]
		if n.Deny != want.deny || !n.Global || !strings.Contains(n.Unknown, want.unknown) || (n.Unknown == "") != (want.unknown == "") {
			t.Errorf("%s: got %+v, want %+v", spec, n, want)
		}
		if accepted := condition.Type == "Accepted" && condition.Status == "True"; accepted != (want.unknown == "") {
			t.Errorf("%s: condition %+v", spec, condition)
		}
		for _, a := range want.in {
			if n.Bits(netip.MustParseAddr(a)) < 0 {
				t.Errorf("%s: %s is not in it", spec, a)
			}
		}
		for _, a := range want.out {
			if n.Bits(netip.MustParseAddr(a)) >= 0 {
				t.Errorf("%s: %s is in it", spec, a)
			}
		}
	}
}

// TestEgressOutsideOtherClusterNetworks: a network without "networks" is all but the
// cluster's networks, which the configuration names.
func TestEgressOutsideOtherClusterNetworks(t *testing.T) {
	c := Config{TrustDomain: "td", ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}}
	r := c.Translate(&Objects{EgressNetworks: []*custom.EgressNetwork{{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "n"}, Spec: json.RawMessage(`{"trafficPolicy":"Deny"}`)}}})
	for addr, in := range map[string]bool{"10.1.1.1": true, "198.51.100.7": false, "2001:db8::1": false, "fd00::1": true} {
		if got := r.Egress[0].Bits(netip.MustParseAddr(addr)) >= 0; got != in {
			t.Errorf("%s is in it: %v, want %v", addr, got, in)
		}
	}
}
