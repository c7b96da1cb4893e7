package l7proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// shop is a namespace of services on an env, with routes to them. The service n
// (from 1) has the ClusterIP 10.9.0.n and the port 80.
type shop struct {
	*env
	version  uint64
	services map[string]netip.AddrPort
}

func newShop(t testing.TB) *shop {
	e := newEnv(t)
	e.local.Namespace = "shop"
	return &shop{env: e, services: map[string]netip.AddrPort{}}
}

func (s *shop) apply(resources ...state.Resource) {
	s.t.Helper()
	s.version++
	for i := range resources {
		resources[i].Version = strconv.FormatUint(s.version, 10)
	}
	if err := s.store.Apply(state.Delta{Version: s.version, Synced: true, Resources: resources}); err != nil {
		s.t.Fatal(err)
	}
}

// service adds a service with these endpoints.
func (s *shop) service(name string, endpoints ...string) {
	s.t.Helper()
	vip := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(len(s.services) + 1)}), 80)
	s.services[name] = vip
	port := mesh.ServicePort{Port: 80}
	for _, addr := range endpoints {
		port.Endpoints = append(port.Endpoints, mesh.Endpoint{Addr: netip.MustParseAddrPort(addr), Ready: true})
	}
	s.apply(state.Resource{Name: state.ServiceName("shop", name), Service: &mesh.Service{
		Name: name, Namespace: "shop", VIPs: []netip.Addr{vip.Addr()}, Ports: []mesh.ServicePort{port},
	}})
}

// handler adds a service whose one endpoint is a server.
func (s *shop) handler(name string, h http.HandlerFunc) {
	s.t.Helper()
	s.service(name, serve(s.t, h))
}

func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// route makes rules hold for the service named apex.
func (s *shop) route(rules ...mesh.RouteRule) {
	s.t.Helper()
	r := &mesh.Route{
		Kind: "HTTPRoute", Namespace: "shop", Name: "r", Parent: mesh.ServicePortRef{Namespace: "shop", Name: "apex"}, Rules: rules,
	}
	s.apply(state.Resource{Name: state.RouteName(r), Route: r})
}

// apex is a client's connection to the service of that name.
func (s *shop) apex() *client { s.t.Helper(); return s.dial(s.services["apex"].String()) }

func to(service string, weight uint32) mesh.RouteBackend {
	return mesh.RouteBackend{Service: mesh.ServicePortRef{Namespace: "shop", Name: service, Port: 80}, Weight: weight}
}

// says answers with a word and what it has been asked.
func says(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-From", word)
		fmt.Fprintf(w, "%s %s %s%s %s", word, r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-Ask"))
	}
}
