package state

import (
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// routeResource is a route for the Service web that is so many hours old.
func routeResource(name, version string, age int) Resource {
	r := &mesh.Route{
		Kind: "HTTPRoute", Namespace: "ns", Name: name, Parent: mesh.ServicePortRef{Namespace: "ns", Name: "web"},
		Created: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).Add(-time.Duration(age) * time.Hour),
	}
	return Resource{Name: RouteName(r), Version: version, Route: r}
}

func TestRoutes(t *testing.T) {
	s := NewStore("n1")
	v := apply(t, s, Delta{Resources: []Resource{
		workload("b", "n2", true, podB), service("1", map[string]netip.Addr{"b": podB}),
		routeResource("young", "1", 1), routeResource("old", "1", 2),
	}})
	web, ok := v.ServiceByName("ns", "web")
	if byVIP, _ := v.ServiceVIP(vip); !ok || web != byVIP {
		t.Fatalf("got %v %v, by address %v", web, ok, byVIP)
	}
	if _, ok := v.ServiceByName("other", "web"); ok {
		t.Error("a service of another namespace")
	}
	first := v.Routes(web)
	if len(first) != 2 || first[0].Name != "old" || first[1].Name != "young" {
		t.Fatalf("got %v", first)
	}
	if n := testing.AllocsPerRun(100, func() {
		v.ServiceByName("ns", "web")
		v.Routes(web)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}

	v = apply(t, s, Delta{Resources: []Resource{service("2", nil), routeResource("old", "1", 2)}})
	changed, _ := v.ServiceByName("ns", "web")
	if second := v.Routes(changed); changed == web || &second[0] != &first[0] {
		t.Error("the routes changed with their service's endpoints")
	}
	v = apply(t, s, Delta{Resources: []Resource{routeResource("old", "2", 0)}})
	if third := v.Routes(changed); len(third) != 2 || third[0] != first[1] || third[1].Name != "old" || first[0].Name != "old" {
		t.Errorf("after a change: got %v, and before it %v", third, first)
	}
	v = apply(t, s, Delta{Removed: []string{routeResource("old", "", 0).Name}})
	if fourth := v.Routes(changed); len(fourth) != 1 || fourth[0].Name != "young" {
		t.Errorf("after a removal: got %v", fourth)
	}
	if d := v.Dump(); len(d.Routes) != 1 {
		t.Errorf("dump: %+v", d.Routes)
	}
}

func TestRouteOfAnotherName(t *testing.T) {
	r := routeResource("a", "1", 0)
	r.Name = "route/x"
	if err := NewStore("n1").Apply(Delta{Resources: []Resource{r}}); err == nil {
		t.Error("applied")
	}
}
