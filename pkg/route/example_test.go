package route_test

import (
	"fmt"
	"math"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

func service(name string) mesh.ServicePortRef {
	return mesh.ServicePortRef{Namespace: "shop", Name: name, Port: 80}
}

func backend(name string, weight uint32) mesh.RouteBackend {
	return mesh.RouteBackend{Service: service(name), Weight: weight}
}

// canary sends a tenth of the requests below /api to store-v2 and all other
// requests to store-v1.
func canary() *mesh.Route {
	return &mesh.Route{
		Kind: "HTTPRoute", Namespace: "shop", Name: "canary", Parent: service("store"),
		Rules: []mesh.RouteRule{
			{
				Name:     "api",
				Matches:  []mesh.RouteMatch{{Path: mesh.PathMatch{Value: "/api"}}},
				Backends: []mesh.RouteBackend{backend("store-v1", 90), backend("store-v2", 10)},
			},
			{Backends: []mesh.RouteBackend{backend("store-v1", 1)}},
		},
	}
}

// header is the smallest implementation of route.Fields.
type header map[string]string

func (h header) Get(name string) (string, bool) {
	value, ok := h[name]
	return value, ok
}

func compile(routes ...*mesh.Route) *route.Table {
	table, err := route.Compile(routes)
	if err != nil {
		panic(err)
	}
	return table
}

func Example() {
	table := compile(canary())
	request := route.Request{Method: "GET", Authority: "store.shop", Path: "/api/items?page=2", Fields: header{}}
	hit, verdict := table.Match(&request)
	if verdict != route.Matched {
		return
	}
	action := hit.Rule.Choose(0) // 64 random bits; 0 gives the first backend with a weight
	if action.Kind == route.Forward {
		target := action.AppendTarget(nil, &request, hit)
		fmt.Printf("rule %s: %s of %s\n", hit.Rule.Label, target, action.Backend.Name)
	}
	// Output: rule api: /api/items?page=2 of store-v1
}

func ExampleSelect() {
	producer := &mesh.Route{Namespace: "shop", Name: "of-the-service", Parent: service("store")}
	consumer := &mesh.Route{Namespace: "batch", Name: "of-the-client", Parent: service("store")}
	for _, client := range []string{"batch", "web"} {
		for _, r := range route.Select([]*mesh.Route{producer, consumer}, service("store"), client) {
			fmt.Println(client, r.Name)
		}
	}
	// Output:
	// batch of-the-client
	// web of-the-service
}

func ExampleCompile() {
	bad := canary()
	bad.Name = "bad"
	bad.Rules[0].Matches[0].Path = mesh.PathMatch{Kind: mesh.PathRegex, Value: "("}
	table, err := route.Compile([]*mesh.Route{bad, canary()})
	fmt.Println(err)
	fmt.Println(len(table.Rules()), "rules") // those of the other route
	// Output:
	// HTTPRoute shop/bad: rule 0: match 0: error parsing regexp: missing closing ): `(`
	// 2 rules
}

func ExampleCheck() {
	r := canary()
	r.Rules[1].Filters.RequestHeaders = &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "Host", Value: "store"}}}
	fmt.Println(route.Check(r))
	// Output: rule 1: request headers: header "host" cannot be changed: rewrite the hostname instead
}

func ExampleTable_Match() {
	r := canary()
	r.Rules = r.Rules[:1] // only the rule for /api
	table := compile(r)
	for _, path := range []string{"/api", "/api/items", "/apis"} {
		_, verdict := table.Match(&route.Request{Method: "GET", Path: path})
		fmt.Println(path, verdict == route.Matched)
	}
	// A gRPC call is matched with HTTP routes only if there are no gRPC routes.
	_, verdict := table.Match(&route.Request{GRPC: true, Method: "POST", Path: "/api/Get"})
	fmt.Println("gRPC", verdict == route.Matched)
	var none *route.Table
	_, verdict = none.Match(&route.Request{Method: "GET", Path: "/api"})
	fmt.Println("no routes", verdict == route.Unrouted)
	// Output:
	// /api true
	// /api/items true
	// /apis false
	// gRPC true
	// no routes true
}

func ExampleTable_Backends() {
	table := compile(canary())
	fmt.Println(len(table.Backends()))
	action := table.Rules()[1].Choose(0)
	fmt.Println(table.Backends()[action.BackendIndex] == action.Backend)
	// Output:
	// 2
	// true
}

func ExampleRule_Choose() {
	rule := compile(canary()).Rules()[0]
	for _, random := range []uint64{0, math.MaxUint64 / 100 * 89, math.MaxUint64 / 100 * 91} {
		fmt.Println(rule.Choose(random).Backend.Name)
	}
	// Output:
	// store-v1
	// store-v1
	// store-v2
}

func ExampleAction_AppendTarget() {
	r := canary()
	r.Rules[0].Filters.Rewrite = &mesh.RouteRewrite{
		Hostname: "store.internal",
		Path:     mesh.PathRewrite{Kind: mesh.PathReplacePrefix, Value: "/v2"},
	}
	request := route.Request{Method: "GET", Authority: "store", Path: "/api/items?page=2"}
	hit, _ := compile(r).Match(&request)
	action := hit.Rule.Choose(0)
	fmt.Println(action.RewritesTarget(), action.Host)
	fmt.Printf("%s\n", action.AppendTarget(nil, &request, hit))
	// Output:
	// true store.internal
	// /v2/items?page=2
}

func ExampleAction_AppendLocation() {
	r := canary()
	r.Rules[0].Filters.Redirect = &mesh.RouteRedirect{Scheme: "https", Status: 301}
	request := route.Request{Method: "GET", Scheme: "http", Authority: "store:8080", Path: "/api/items"}
	hit, _ := compile(r).Match(&request)
	action := hit.Rule.Choose(0)
	fmt.Printf("%d %s\n", action.Status, action.AppendLocation(nil, &request, hit, 8080))
	// Output: 301 https://store/api/items
}

func ExampleEdits() {
	r := canary()
	r.Rules[0].Filters.RequestHeaders = &mesh.HeaderModifier{
		Set:    []mesh.HeaderField{{Name: "X-Team", Value: "shop"}},
		Remove: []string{"X-Debug"},
	}
	edits := compile(r).Rules()[0].Choose(0).Request
	fmt.Println(edits.Empty(), edits.Remove, edits.Add)
	// Output: false [x-team x-debug] [{x-team shop}]
}

func ExampleMirror_Wants() {
	r := canary()
	r.Rules[0].Filters.Mirrors = []mesh.RouteMirror{
		{Service: service("store-next"), Share: mesh.Fraction{Numerator: 1, Denominator: 4}},
	}
	mirror := compile(r).Rules()[0].Choose(0).Mirrors[0]
	fmt.Println(mirror.Backend.Name, mirror.Wants(0), mirror.Wants(math.MaxUint64/2))
	// Output: store-next true false
}

func ExampleFault() {
	r := canary()
	r.Rules[0].Filters.Fault = &mesh.RouteFault{
		Delay: 100 * time.Millisecond, DelayShare: mesh.Fraction{Numerator: 1, Denominator: 2},
		AbortStatus: 503,
	}
	fault := compile(r).Rules()[0].Choose(0).Fault
	fmt.Println(fault.Delay(0), fault.Delay(math.MaxUint64))
	fmt.Println(fault.Abort(false, 0))
	_, abort := fault.Abort(true, 0) // gRPC: AbortGRPC is not set
	fmt.Println(abort)
	// Output:
	// 100ms 0s
	// 503 true
	// false
}
