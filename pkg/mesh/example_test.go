package mesh_test

import (
	"errors"
	"fmt"
	"io"

	"github.com/underlane/underlane/pkg/mesh"
)

func ExampleIdentity() {
	web := mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}
	fmt.Println(web)
	fmt.Println(web.IsZero(), mesh.Identity{}.IsZero())
	// Output:
	// spiffe://cluster.local/ns/shop/sa/web
	// false true
}

func ExampleParseIdentity() {
	id, err := mesh.ParseIdentity("spiffe://cluster.local/ns/shop/sa/web")
	fmt.Println(id.Namespace, id.ServiceAccount, err)
	_, err = mesh.ParseIdentity("spiffe://cluster.local/node/node-1")
	fmt.Println(err)
	// Output:
	// shop web <nil>
	// identity "spiffe://cluster.local/node/node-1": want spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>
}

func ExampleReason() {
	r := mesh.ReasonConnectTimeout
	fmt.Println(r, r.HTTPStatus(), r.GRPCCode(), r.NotReached())
	fmt.Println(r.Text())
	fmt.Println(mesh.ParseReason("connect-timeout") == r)
	// Output:
	// connect-timeout 504 14 true
	// the endpoint did not answer: maybe a NetworkPolicy drops the packets
	// true
}

func ExampleFail() {
	err := fmt.Errorf("GET /: %w", mesh.Fail(mesh.ReasonUpstreamReset, io.ErrUnexpectedEOF))
	fmt.Println(err)
	var failure *mesh.ReasonError
	if errors.As(err, &failure) {
		fmt.Println(failure.Reason, errors.Is(err, io.ErrUnexpectedEOF))
	}
	// Output:
	// GET /: upstream-reset: unexpected EOF
	// upstream-reset true
}

func ExampleInRanges() {
	skip := []mesh.PortRange{{First: 25, Last: 25}, {First: 9000, Last: 9100}}
	fmt.Println(mesh.InRanges(skip, 25), mesh.InRanges(skip, 80), mesh.InRanges(skip, 9100))
	// Output: true false true
}

func ExampleRoute_Services() {
	route := mesh.Route{
		Kind: "HTTPRoute", Namespace: "shop", Name: "canary",
		Parent: mesh.ServicePortRef{Namespace: "shop", Name: "web", Port: 80},
		Rules: []mesh.RouteRule{{
			Filters: mesh.RouteFilters{Mirrors: []mesh.RouteMirror{
				{Service: mesh.ServicePortRef{Namespace: "test", Name: "web-next", Port: 80}},
			}},
			Backends: []mesh.RouteBackend{
				{Service: mesh.ServicePortRef{Namespace: "shop", Name: "web-v1", Port: 80}, Weight: 90},
				{Service: mesh.ServicePortRef{Namespace: "shop", Name: "web-v2", Port: 80}, Weight: 10},
			},
		}},
	}
	for s := range route.Services() {
		fmt.Printf("%s/%s:%d\n", s.Namespace, s.Name, s.Port)
	}
	// Output:
	// test/web-next:80
	// shop/web-v1:80
	// shop/web-v2:80
}

func ExampleRoute_Consumer() {
	route := mesh.Route{Namespace: "shop", Parent: mesh.ServicePortRef{Namespace: "shop", Name: "web"}}
	fmt.Println(route.Consumer())
	route.Namespace = "batch" // made by a client, for its own namespace
	fmt.Println(route.Consumer())
	// Output:
	// false
	// true
}

func ExampleEndpoint_Same() {
	web := &mesh.Workload{Namespace: "shop", Name: "web-1"}
	a := mesh.Endpoint{Workload: web, Ready: true}
	b := a
	fmt.Println(a.Same(b))
	b.Ready = false
	fmt.Println(a.Same(b))
	// Output:
	// true
	// false
}

func ExampleDirection() {
	fmt.Println(mesh.Outbound, mesh.Inbound)
	// Output: outbound inbound
}

func ExamplePolicyMode() {
	fmt.Println(mesh.PolicyAllow, mesh.PolicyStrict)
	// Output: allow strict
}
