package policy_test

import (
	"fmt"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
)

func ExampleDecide() {
	server := &mesh.Workload{
		Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "store"},
		Settings: mesh.Settings{Policy: mesh.PolicyStrict},
	}
	web := mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}

	v := policy.Decide(policy.Input{Server: server, Port: 8080, Client: web})
	fmt.Println(v.Allowed)

	v = policy.Decide(policy.Input{Server: server, Port: 8080}) // a client outside the mesh
	fmt.Println(v.Allowed, v.Reason)

	v = policy.Decide(policy.Input{Server: server, Port: 8080, ClientIsNode: true}) // a kubelet's probe
	fmt.Println(v.Allowed)
	// Output:
	// true
	// false no-identity
	// true
}
