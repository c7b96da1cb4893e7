package server

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

func named(name string, ip string, endpoints ...*mesh.Workload) *mesh.Service {
	s := serviceOf(endpoints...)
	s.Name, s.VIPs = name, []netip.Addr{netip.MustParseAddr(ip)}
	return s
}

// routeTo is a route for parent that sends requests to backend, and copies to
// mirror.
func routeTo(parent, backend, mirror string) *mesh.Route {
	at := func(name string) mesh.ServicePortRef {
		return mesh.ServicePortRef{Namespace: "ns", Name: name, Port: 80}
	}
	return &mesh.Route{
		Kind: "HTTPRoute", Namespace: "ns", Name: parent + "-to-" + backend, Parent: at(parent),
		Rules: []mesh.RouteRule{{
			Filters:  mesh.RouteFilters{Mirrors: []mesh.RouteMirror{{Service: at(mirror)}}},
			Backends: []mesh.RouteBackend{{Service: at(backend), Weight: 1}, {Service: at("gone"), Weight: 1, Invalid: "no such Service"}},
		}},
	}
}

func routedContent() Content {
	a, b, c, d := pod("a", "n2", podA), pod("b", "n2", podB), pod("c", "n2", podC), pod("d", "n2", podC.Next())
	return Content{
		Workloads: []*mesh.Workload{a, b, c, d},
		Services:  []*mesh.Service{serviceOf(a), named("v2", "10.96.0.2", b), named("copy", "10.96.0.3", c), named("other", "10.96.0.4", d)},
		// The others have routes too, one back to where it all began: that is not
		// for who asks for the first.
		Routes: []*mesh.Route{routeTo("web", "v2", "web"), routeTo("v2", "copy", "v2"), routeTo("copy", "web", "copy"), routeTo("other", "web", "web")},
	}
}

func TestRoutesTravelWithTheirService(t *testing.T) {
	snap := NewSnapshot(1, routedContent(), nil)
	st, _ := newSyncState(newNumbers(), "n1", &pb.SyncRequest{
		Subscribe: codec.EncodeAddrs([]netip.Addr{vip}), Agent: &pb.Agent{Kinds: []string{"route"}},
	})
	want := []string{
		"workload/uid-a", "workload/uid-b", "service/ns/v2", "service/ns/web", "route/ns/web/80/HTTPRoute/ns/web-to-v2", "address/10.96.0.1",
	}
	if diff := cmp.Diff(want, names(st.next(snap).message())); diff != "" {
		t.Error(diff)
	}
}

// TestConsumerRoutesGoWhereTheirClientsAre: a node without meshed pods of the
// route's namespace sees neither it nor what it leads to.
func TestConsumerRoutesGoWhereTheirClientsAre(t *testing.T) {
	content := routedContent()
	consumer := routeTo("web", "copy", "copy")
	consumer.Namespace = "team"
	content.Routes = []*mesh.Route{routeTo("web", "v2", "v2"), consumer}
	sent := func(client *mesh.Workload) []string {
		c := content
		if client != nil {
			c.Workloads = append(slices.Clone(c.Workloads), client)
		}
		st, _ := newSyncState(newNumbers(), "n1", &pb.SyncRequest{
			Subscribe: codec.EncodeAddrs([]netip.Addr{vip}), Agent: &pb.Agent{Kinds: []string{"route"}},
		})
		var out []string
		for _, name := range names(st.next(NewSnapshot(1, c, nil)).message()) {
			if strings.HasPrefix(name, "route/") || strings.HasPrefix(name, "service/") {
				out = append(out, name)
			}
		}
		return out
	}
	team := func(node string, meshed bool) *mesh.Workload {
		w := pod("client", node, podC.Next().Next())
		w.Namespace, w.Meshed = "team", meshed
		return w
	}
	producer := []string{"service/ns/v2", "service/ns/web", "route/ns/web/80/HTTPRoute/ns/web-to-v2"}
	both := []string{
		"service/ns/copy", "service/ns/v2", "service/ns/web",
		"route/ns/web/80/HTTPRoute/ns/web-to-v2", "route/ns/web/80/HTTPRoute/team/web-to-copy",
	}
	for name, c := range map[string]struct {
		client *mesh.Workload
		want   []string
	}{
		"no client": {nil, producer}, "elsewhere": {team("n2", true), producer}, "not meshed": {team("n1", false), producer}, "here": {team("n1", true), both},
	} {
		if diff := cmp.Diff(c.want, sent(c.client)); diff != "" {
			t.Error(name, diff)
		}
	}
}

// TestOldAgentsGetNoRoutes: they would refuse the delta, and be stuck.
func TestOldAgentsGetNoRoutes(t *testing.T) {
	snap := NewSnapshot(1, routedContent(), nil)
	st, _ := newSyncState(newNumbers(), "n1", &pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{vip}), Agent: &pb.Agent{Version: "0.1"}})
	want := []string{"workload/uid-a", "service/ns/web", "address/10.96.0.1"}
	if diff := cmp.Diff(want, names(st.next(snap).message())); diff != "" {
		t.Error(diff)
	}
}

func TestRoutesAreKeptCurrent(t *testing.T) {
	c := newController(t)
	content := routedContent()
	publish := func(routes ...*mesh.Route) {
		c.version++
		c.server.Publish(NewSnapshot(c.version, Content{
			Workloads: content.Workloads, Services: content.Services, Routes: routes, Anchors: c.server.anchors(),
		}, c.server.Snapshot()))
	}
	publish()
	agent := c.agent("n1")
	agent.untilConnected()
	v := agent.resolve(vip)
	web, ok := v.ServiceByName("ns", "web")
	if !ok || len(v.Routes(web)) != 0 {
		t.Fatalf("web: %v %v", web, ok)
	}
	publish(routeTo("web", "v2", "v2"))
	agent.until("a route and its backend come", func(v *state.View) bool {
		s, ok := v.ServiceByName("ns", "v2")
		return ok && len(s.Ports[0].Endpoints) == 1 && s.Ports[0].Endpoints[0].Workload != nil && len(v.Routes(web)) == 1
	})
	publish(routeTo("web", "copy", "copy"))
	agent.until("one backend goes, another comes", func(v *state.View) bool {
		_, old := v.ServiceByName("ns", "v2")
		_, now := v.ServiceByName("ns", "copy")
		return !old && now && len(v.Routes(web)) == 1 && v.Routes(web)[0].Name == "web-to-copy"
	})
	publish()
	agent.until("the route goes, the service stays", func(v *state.View) bool {
		_, gone := v.ServiceByName("ns", "copy")
		_, stays := v.ServiceByName("ns", "web")
		return !gone && stays && len(v.Routes(web)) == 0
	})
	if st := agent.Status(); st.Nacks != 0 || st.Skipped != 0 {
		t.Errorf("status: %+v", st)
	}
}
