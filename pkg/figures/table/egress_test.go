package table

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

func TestEgress(t *testing.T) {
	f := &tapv1alpha1.Figures{Resources: []tapv1alpha1.Resource{
		{Kind: "deployment", Namespace: "shop", Name: "web"},
		{Kind: "external", Name: "api.example.com"},
		{Kind: "external", Name: "203.0.113.7:5432"},
		{Kind: "other", Name: "other"},
		{Kind: "deployment", Namespace: "shop", Name: "db"},
		{Kind: "external", Name: "evil.example.com"},
		{Kind: "external", Name: "db.example.com:6379"},
		{Kind: "deployment", Namespace: "other", Name: "web"},
	}}
	sums := func(requests, success, denied, opened uint64) *tapv1alpha1.Sums {
		s := &tapv1alpha1.Sums{Requests: requests, Success: success, Failures: map[string]uint64{"egress-denied": denied}}
		if opened > 0 {
			s.TCP = &tapv1alpha1.TCP{Opened: opened}
		}
		return s
	}
	edge := func(to int, protocol string, s *tapv1alpha1.Sums) {
		f.Edges = append(f.Edges, tapv1alpha1.Edge{Source: 0, Destination: to, Protocol: protocol, Total: s})
	}
	edge(1, "http1", sums(3, 2, 0, 0))
	edge(1, "http1", sums(1, 1, 0, 0)) // over another node
	edge(1, "tls", sums(0, 0, 0, 4))
	edge(2, "tcp", sums(0, 0, 0, 1))
	edge(3, "http1", sums(7, 7, 0, 0))
	edge(4, "http1", sums(9, 9, 0, 0)) // inside the mesh
	edge(5, "http2", sums(2, 0, 2, 0))
	edge(6, "tcp", sums(0, 0, 0, 2))
	edge(6, "tcp", sums(0, 0, 0, 3))
	f.Edges[7].Addresses, f.Edges[8].Addresses = []string{"203.0.113.8:6379"}, []string{"203.0.113.8:6379", "[2001:db8::8]:6379"}
	edge(6, "tcp", sums(0, 0, 0, 1))
	f.Edges[9].Source, f.Edges[9].Addresses = 7, []string{"203.0.113.66:6379"} // what DNS has told another one
	f.Resources = append(f.Resources, tapv1alpha1.Resource{Kind: "external", Name: "203.0.113.80:80"}, tapv1alpha1.Resource{Kind: "external", Name: "late.example.com"},
		tapv1alpha1.Resource{Kind: "external", Name: "203.0.113.7:443"})
	edge(8, "http1", sums(0, 0, 0, 3)) // connections of requests that have names
	edge(9, "tcp", sums(0, 0, 0, 0))   // refused by its SNI
	f.Edges[11].Total.TCP = &tapv1alpha1.TCP{Failed: 1}
	edge(10, "tls", sums(0, 0, 0, 1)) // without SNI
	rows := EgressRows(f)
	if last := rows[0]; last.Namespace != "other" || cmp.Diff([]string{"203.0.113.66:6379"}, last.Addresses) != "" {
		t.Errorf("of the other namespace: %+v", last)
	}
	rows = rows[1:]
	if diff := cmp.Diff([]EgressRow{
		{Namespace: "shop", Client: "deploy/web", Destination: "203.0.113.7:443", Protocol: "tls", Connections: 1},
		{Namespace: "shop", Client: "deploy/web", Destination: "203.0.113.7:5432", Protocol: "tcp", Connections: 1},
		{Namespace: "shop", Client: "deploy/web", Destination: "203.0.113.80:80", Protocol: "http1", Connections: 3},
		{Namespace: "shop", Client: "deploy/web", Destination: "api.example.com", Protocol: "http1", Requests: 4, Success: 3},
		{Namespace: "shop", Client: "deploy/web", Destination: "api.example.com", Protocol: "tls", Connections: 4},
		{Namespace: "shop", Client: "deploy/web", Destination: "db.example.com:6379", Protocol: "tcp", Connections: 5, Addresses: []string{"203.0.113.8:6379", "[2001:db8::8]:6379"}},
		{Namespace: "shop", Client: "deploy/web", Destination: "evil.example.com", Protocol: "http2", Requests: 2, Denied: 2},
		{Namespace: "shop", Client: "deploy/web", Destination: "late.example.com", Protocol: "tcp", Failed: 1},
		{Namespace: "shop", Client: "deploy/web", Destination: "other", Protocol: "http1", Requests: 7, Success: 7, Folded: true},
	}, rows); diff != "" {
		t.Error("rows (-want +got):", diff)
	}
	for denied, want := range map[bool][]string{
		false: {"kind: EgressNetwork", "trafficPolicy: Deny", `"api.example.com"`, "kind: TLSRoute", `cidr: "203.0.113.7/32"`, "kind: TCPRoute", "port: 5432", "the list is not complete", `cidr: "203.0.113.8/32"`, `# [2001:db8::8]:6379 was an address of "db.example.com:6379" when it was called`, `cidr: "2001:db8::8/128"`},
		true:  {`"evil.example.com"`, `"late.example.com"`},
	} {
		var out bytes.Buffer
		if err := SuggestEgress(&out, rows, denied); err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				t.Errorf("denied %v: %s is missing in:\n%s", denied, text, out.String())
			}
		}
		if strings.Contains(out.String(), "evil") != denied || strings.Contains(out.String(), "late") != denied {
			t.Errorf("denied %v:\n%s", denied, out.String())
		}
		if strings.Contains(out.String(), "203.0.113.80") {
			t.Errorf("a network of an address to which names lead:\n%s", out.String())
		}
		// The network of an address allows the names, too. Ports of TLS without a name need a
		// TLSRoute then.
		for _, kind := range []string{"HTTPRoute", "TLSRoute"} {
			if route := "kind: " + kind + "\nmetadata: {name: outside-203-0-113-7, namespace: shop}\nspec:\n  hostnames:\n"; !strings.Contains(out.String(), route) {
				t.Errorf("%q is missing in:\n%s", route, out.String())
			}
		}
		if route := "kind: TLSRoute\nmetadata: {name: outside-203-0-113-7-443, namespace: shop}\nspec:\n  parentRefs"; !strings.Contains(out.String(), route) {
			t.Errorf("%q is missing in:\n%s", route, out.String())
		}
	}
}
