package authz

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestLimitsInWords: the limits that are about a request are named, with their rates, and those
// about other requests are not.
func TestLimitsInWords(t *testing.T) {
	id := func(account string) mesh.Identity {
		return mesh.Identity{TrustDomain: "td", Namespace: "shop", ServiceAccount: account}
	}
	w, problems := CompileWorkload(&Spec{
		TrustDomain: "td",
		Limits: []Limit{
			{
				Policy: "RateLimitPolicy.policy.underlane.io shop/users", Name: "user", Number: 1, Requests: 50, Burst: 60, Per: time.Second, Nodes: 3,
				By: []Distinct{{Kind: DistinctHeader, Name: "x-user"}, {Kind: DistinctIdentity}},
			},
			{
				Policy: "RateLimitPolicy.policy.underlane.io shop/users", Number: 2, Requests: 5, Burst: 5, Per: time.Minute,
				Where: Rule{To: []Operation{{Paths: []Match{{Kind: Prefix, Value: "/admin"}}}}},
			},
			{Policy: "RateLimitPolicy.policy.underlane.io shop/broken", Name: "x"},
		},
		RateLimits: []RateLimit{{
			Policy: "HTTPLocalRateLimitPolicy.policy.linkerd.io shop/l", Ports: []PortRange{Port(80)}, Total: 100, Identity: 10,
			Overrides: []RateOverride{{RequestsPerSecond: 20, Clients: []mesh.Identity{id("web")}}, {RequestsPerSecond: 30, Clients: []mesh.Identity{id("web")}}},
		}},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	shared := []string{
		"RateLimitPolicy shop/users, limit user: 50 requests in 1s, 60 at once, on all nodes together, for each value of the header field x-user and identity",
		"RateLimitPolicy shop/broken, limit x: it is not understood, and lets in no request",
	}
	admin := "RateLimitPolicy shop/users, limit 2: 5 requests in 1m0s, 5 at once, on each node"
	local := "HTTPLocalRateLimitPolicy shop/l: 100 requests a second in total, "
	for name, tc := range map[string]struct {
		c    Connection
		r    *Request
		want []string
	}{
		"another port":        {Connection{Port: 81}, &Request{Path: "/"}, shared},
		"a path":              {Connection{Port: 81}, &Request{Path: "/admin/x"}, []string{shared[0], admin, shared[1]}},
		"without an identity": {Connection{Port: 80}, &Request{Path: "/"}, append(shared[:2:2], local+"10 a second for all clients without an identity, in each pod")},
		"an identity":         {Connection{Port: 80, Peer: PeerOf(id("job"))}, &Request{Path: "/"}, append(shared[:2:2], local+"10 a second for each identity, in each pod")},
		"an override":         {Connection{Port: 80, Peer: PeerOf(id("web"))}, &Request{Path: "/"}, append(shared[:2:2], local+"20 a second for the clients of an override, in each pod")},
		"a connection":        {Connection{Port: 80}, nil, nil},
		"a probe":             {Connection{Port: 80, Probe: true}, &Request{Path: "/"}, nil},
	} {
		if diff := cmp.Diff(tc.want, w.LimitsOf(&tc.c, tc.r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
