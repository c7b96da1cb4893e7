package destination

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

func TestParseServiceHost(t *testing.T) {
	ref := func(port uint16) mesh.ServicePortRef {
		return mesh.ServicePortRef{Namespace: "shop", Name: "web", Port: port}
	}
	for host, want := range map[string]mesh.ServicePortRef{
		"web.shop":                          ref(0),
		"web.shop:8080":                     ref(8080),
		"web.shop.svc":                      ref(0),
		"web.shop.svc:80":                   ref(80),
		"web.shop.svc.cluster.local:80":     ref(80),
		"web.shop.svc.my.own.domain":        ref(0),
		"web.shop.svc.cluster.local.:80":    ref(80),
		"WEB.Shop.SVC.Cluster.Local":        ref(0),
		"":                                  {},
		"web":                               {},
		"web.":                              {},
		".shop":                             {},
		"web..svc":                          {},
		"web.shop.":                         ref(0),
		"web.shop.pod.cluster.local":        {},
		"web-0.web.shop.svc.cluster.local":  {},
		"web.shop:0":                        {},
		"web.shop:65536":                    {},
		"web.shop:http":                     {},
		"web.shop:":                         {},
		"[2001:db8::1]:80":                  {},
		"10.0.0.1:80":                       {},
		string(make([]byte, 300)) + ".shop": {},
	} {
		got, ok := parseServiceHost(host)
		if ok != (want != mesh.ServicePortRef{}) || ok && got != want {
			t.Errorf("%q: %+v, %v; want %+v", host, got, ok, want)
		}
	}
}

// TestNamedWaitsForTheServices: a pod of the node itself is known before anything asks for
// its address. Which Services it belongs to is known only after that.
func TestNamedWaitsForTheServices(t *testing.T) {
	const override = "web.shop:80"
	pod := netip.MustParseAddrPort("10.0.0.2:8080")
	server := &mesh.Workload{UID: "server", Namespace: "shop", Node: "node-1", Meshed: true, Addrs: []netip.Addr{pod.Addr()}}
	client := &mesh.Workload{UID: "gate", Node: "node-1", Settings: mesh.Settings{Ingress: true}}
	known := func() (*state.Store, *Directory) {
		store := state.NewStore("node-1")
		if err := store.Apply(state.Delta{Version: 1, Synced: true, Resources: []state.Resource{
			{Name: state.WorkloadName(server.UID), Version: "1", Workload: server},
		}}); err != nil {
			t.Fatal(err)
		}
		return store, newDirectory(store)
	}

	store, d := known()
	d.ResolveTimeout = time.Minute
	to := d.Outbound(client, pod, inPlace)
	if !to.Ingress() {
		t.Fatal("the client is no ingress")
	}
	applied := make(chan error, 1)
	time.AfterFunc(10*time.Millisecond, func() {
		applied <- store.Apply(state.Delta{Version: 2, Resources: []state.Resource{
			{Name: state.ServiceName("shop", "web"), Version: "1", Service: &mesh.Service{
				Name: "web", Namespace: "shop",
				Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Addr: pod, WorkloadUID: server.UID, Ready: true}}}},
			}},
			{Name: state.AddressName(pod.Addr()), Version: "1", Address: &state.Address{Addr: pod.Addr()}},
		}})
	})
	named, err := to.Named(override, "")
	if err != nil || named.Service.Name != "web" || named.Port.Port != 80 {
		t.Errorf("got %+v, %v", named, err)
	}
	if err := <-applied; err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = to.Named(override, "") }); n != 0 {
		t.Errorf("%v allocations for a request that names the same Service", n)
	}

	_, d = known()
	d.ResolveTimeout = time.Millisecond
	to = d.Outbound(client, pod, inPlace)
	var why *mesh.ReasonError
	if _, err := to.Named(override, ""); !errors.As(err, &why) || why.Reason != mesh.ReasonTimeout {
		t.Errorf("the controller says nothing: %v, want %v", err, mesh.ReasonTimeout)
	}
	if named, err := to.Named("", "web.shop.svc"); named != nil || err != nil {
		t.Errorf("by the authority: %+v, %v; want the pod", named, err)
	}
}
