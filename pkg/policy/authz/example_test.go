package authz_test

import (
	"fmt"
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Only web may POST /charge, and nobody else may do anything.
func Example() {
	set, problems := authz.Compile([]authz.Policy{{
		Name:   "AuthorizationPolicy shop/charge",
		Action: authz.ActionAllow,
		Rules: []authz.Rule{{
			From: []authz.Source{{ServiceAccounts: []authz.ServiceAccount{{Namespace: "shop", Name: "web"}}}},
			To: []authz.Operation{{
				Methods: []authz.Match{{Kind: authz.Exact, Value: "POST"}},
				Paths:   []authz.Match{{Kind: authz.Exact, Value: "/charge"}},
			}},
		}},
	}}, authz.Options{TrustDomain: "cluster.local"})
	fmt.Println("problems:", len(problems))

	client := &authz.Connection{
		Peer:   authz.PeerOf(mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}),
		Client: netip.MustParseAddr("10.1.2.3"), Port: 8080,
	}
	d := set.DecideConnection(client)
	fmt.Println(d.Verdict, "by", d.Place.Policy)
	d = d.Opaque() // its bytes are not HTTP
	fmt.Println(d.Verdict, d.Why)
	d = set.DecideRequest(client, &authz.Request{Method: "POST", Path: "/charge"})
	fmt.Println(d.Verdict, "by", d.Place.Policy)
	d = set.DecideRequest(client, &authz.Request{Method: "GET", Path: "/charge"})
	fmt.Println(d.Verdict, d.Why)
	// Output:
	// problems: 0
	// needs-request by AuthorizationPolicy shop/charge
	// deny opaque
	// allow by AuthorizationPolicy shop/charge
	// deny unmatched
}
