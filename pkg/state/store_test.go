package state

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

var (
	podA = netip.MustParseAddr("10.1.0.1")
	podB = netip.MustParseAddr("10.1.0.2")
	vip  = netip.MustParseAddr("10.96.0.1")
	far  = netip.MustParseAddr("192.0.2.1")
)

func workload(uid, node string, ready bool, addrs ...netip.Addr) Resource {
	return Resource{
		Name: WorkloadName(uid), Version: uid + node + map[bool]string{true: "+", false: "-"}[ready],
		Workload: &mesh.Workload{UID: uid, Name: uid, Node: node, Addrs: addrs, Ready: ready},
	}
}

func service(version string, uids map[string]netip.Addr) Resource {
	s := &mesh.Service{Name: "web", Namespace: "ns", VIPs: []netip.Addr{vip}}
	port := mesh.ServicePort{Name: "http", Port: 80}
	for uid, addr := range uids {
		port.Endpoints = append(port.Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(addr, 8080), WorkloadUID: uid, Ready: true})
	}
	s.Ports = []mesh.ServicePort{port}
	return Resource{Name: ServiceName("ns", "web"), Version: version, Service: s}
}

func address(a netip.Addr) Resource {
	return Resource{Name: AddressName(a), Version: "1", Address: &Address{Addr: a}}
}

func apply(t *testing.T, s *Store, d Delta) *View {
	t.Helper()
	if err := s.Apply(d); err != nil {
		t.Fatal(err)
	}
	return s.View()
}

func TestLookups(t *testing.T) {
	s := NewStore("n1")
	if v := s.View(); v.Synced() || v.Answered(vip) || v.Anchors() != nil || len(v.Local()) != 0 {
		t.Fatal("the first view is not empty")
	}
	host := workload("host", "n1", true, netip.MustParseAddr("172.16.0.1"))
	host.Workload.HostNetwork = true
	v := apply(t, s, Delta{Version: 7, Synced: true, Resources: []Resource{
		workload("b", "n2", true, podB), workload("a", "n1", true, podA), host,
		service("1", map[string]netip.Addr{"b": podB}), address(vip), address(far),
		{Name: AnchorsName, Version: "1", Anchors: &Anchors{DER: [][]byte{{1}}}},
	}})

	w, ok := v.Workload(netip.MustParseAddr("::ffff:10.1.0.1"))
	if !ok || w.UID != "a" {
		t.Errorf("v4-mapped pod address: got %v %v", w, ok)
	}
	if _, ok := v.Workload(netip.MustParseAddr("172.16.0.1")); ok {
		t.Error("a node's address found as a pod's")
	}
	svc, port, ok := v.Service(netip.MustParseAddrPort("[::ffff:10.96.0.1]:80"))
	if !ok || svc.Name != "web" || port.Name != "http" {
		t.Fatalf("service: got %v %v %v", svc, port, ok)
	}
	if b, _ := v.Workload(podB); port.Endpoints[0].Workload != b || b == nil {
		t.Error("the endpoint does not point to the workload that its address finds")
	}
	if svc, port, ok := v.Service(netip.AddrPortFrom(vip, 81)); svc == nil || port != nil || ok {
		t.Errorf("a port the service has not: got %v %v %v", svc, port, ok)
	}
	var local []string
	for _, w := range v.Local() {
		local = append(local, w.UID)
	}
	if diff := cmp.Diff([]string{"a", "host"}, local); diff != "" {
		t.Error("local:", diff)
	}
	for a, want := range map[netip.Addr]bool{podA: true, podB: true, vip: true, far: true, netip.MustParseAddr("8.8.8.8"): false} {
		if v.Answered(a) != want {
			t.Errorf("Answered(%s) = %v", a, !want)
		}
	}
	if !v.Synced() || len(v.Anchors()) != 1 {
		t.Errorf("synced %v, anchors %v", v.Synced(), v.Anchors())
	}
}

// TestExternalAddresses belong to a service port by port, and to a pod before that.
func TestExternalAddresses(t *testing.T) {
	external := func(name string, port uint16, addrs ...netip.Addr) Resource {
		return Resource{Name: ServiceName("ns", name), Version: "1", Service: &mesh.Service{
			Name: name, Namespace: "ns", Ports: []mesh.ServicePort{{Port: port, External: addrs}},
		}}
	}
	s := NewStore("n1")
	v := apply(t, s, Delta{Resources: []Resource{
		external("shop", 80, far, podA), external("db", 3306, far), workload("a", "n1", true, podA),
		address(far), service("1", nil), external("thief", 80, vip),
	}})
	mapped := netip.AddrFrom16(far.As16())
	for at, want := range map[netip.AddrPort]string{
		netip.AddrPortFrom(far, 80):    "shop",
		netip.AddrPortFrom(mapped, 80): "shop",
		netip.AddrPortFrom(far, 3306):  "db",
		netip.AddrPortFrom(far, 443):   "", // not a service's, unlike a ClusterIP's other ports
		netip.AddrPortFrom(podA, 80):   "", // a pod's
		netip.AddrPortFrom(vip, 80):    "web",
		netip.AddrPortFrom(podB, 80):   "",
	} {
		svc, port, ok := v.Service(at)
		got := ""
		if svc != nil {
			got = svc.Name
		}
		if got != want || ok != (want != "") || ok && port.Port != at.Port() {
			t.Errorf("%s: got %q %v %v, want %q", at, got, port, ok, want)
		}
	}
	if _, ok := v.ServiceVIP(far); ok {
		t.Error("an external address counts as a ClusterIP")
	}
	if d := v.Dump(); len(d.Unknown) != 0 {
		t.Errorf("unknown: %v", d.Unknown)
	}
	v = apply(t, s, Delta{Removed: []string{ServiceName("ns", "shop")}})
	if _, _, ok := v.Service(netip.AddrPortFrom(far, 80)); ok {
		t.Error("the address outlived its service")
	}
}

// TestNodePorts lead to a service at the addresses of nodes, of the families of its
// ClusterIPs, and nowhere else.
func TestNodePorts(t *testing.T) {
	node, node6 := netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("fd00:16::1")
	of := func(a netip.Addr) Resource {
		return Resource{Name: AddressName(a), Version: "node", Address: &Address{Addr: a, Node: true}}
	}
	named := func(name string, port mesh.ServicePort, vips ...string) Resource {
		s := &mesh.Service{Name: name, Namespace: "ns", Ports: []mesh.ServicePort{{Port: 1}, port}}
		for _, a := range vips {
			s.VIPs = append(s.VIPs, netip.MustParseAddr(a))
		}
		return Resource{Name: ServiceName("ns", name), Version: "1", Service: s}
	}
	s := NewStore("n1")
	v := apply(t, s, Delta{Resources: []Resource{
		of(node), of(node6), address(far), workload("a", "n1", true, podA), of(podA),
		named("shop", mesh.ServicePort{Port: 80, NodePort: 30080}, "10.96.7.1"),
		named("both", mesh.ServicePort{Port: 80, NodePort: 30081}, "10.96.7.2", "fd00:96::1"),
		named("local", mesh.ServicePort{Port: 30082}, "10.96.7.3"),
		named("claim", mesh.ServicePort{Port: 30080, External: []netip.Addr{node}}, "10.96.7.4"),
	}})
	for at, want := range map[netip.AddrPort]string{
		netip.AddrPortFrom(node, 30081):                          "both",
		netip.AddrPortFrom(netip.AddrFrom16(node.As16()), 30081): "both",
		netip.AddrPortFrom(node6, 30081):                         "both",
		netip.AddrPortFrom(node, 30080):                          "claim", // as an external address of its own
		netip.AddrPortFrom(node6, 30080):                         "",
		netip.AddrPortFrom(node, 30082):                          "",
		netip.AddrPortFrom(node, 80):                             "",
		netip.AddrPortFrom(node, 0):                              "",
		netip.AddrPortFrom(far, 30081):                           "", // no node's
		netip.AddrPortFrom(podA, 30081):                          "", // a pod's
		netip.AddrPortFrom(podB, 30081):                          "", // not asked for
	} {
		svc, port, ok := v.Service(at)
		got := ""
		if svc != nil {
			got = svc.Name
		}
		if got != want || ok != (want != "") || ok && port.NodePort != at.Port() && port.Port != at.Port() {
			t.Errorf("%s: got %q %v %v, want %q", at, got, port, ok, want)
		}
	}
	if _, _, ok := v.Service(netip.MustParseAddrPort("10.96.7.2:30081")); ok {
		t.Error("a node port counts at the ClusterIP")
	}
	v = apply(t, s, Delta{Resources: []Resource{address(node)}})
	if _, _, ok := v.Service(netip.AddrPortFrom(node, 30081)); ok {
		t.Error("the node port outlived the node")
	}
}

func TestPointerIdentityMeansUnchanged(t *testing.T) {
	s := NewStore("n1")
	first := apply(t, s, Delta{Resources: []Resource{
		workload("a", "n1", true, podA), workload("b", "n2", true, podB), service("1", map[string]netip.Addr{"b": podB}),
	}})
	svc1, _ := first.ServiceVIP(vip)

	second := apply(t, s, Delta{Resources: []Resource{workload("a", "n1", false, podA), workload("b", "n2", true, podB)}})
	if svc2, _ := second.ServiceVIP(vip); svc1 != svc2 {
		t.Error("a service changed though neither it nor its endpoints did")
	}
	if a1, _ := first.Workload(podA); a1.Ready != true {
		t.Error("an old view changed")
	}
	if a2, _ := second.Workload(podA); a2.Ready {
		t.Error("the change of a workload is lost")
	}

	third := apply(t, s, Delta{Resources: []Resource{workload("b", "n2", false, podB)}})
	svc3, _ := third.ServiceVIP(vip)
	if svc3 == svc1 || svc3.Ports[0].Endpoints[0].Workload.Ready {
		t.Error("a service still points to the old workload")
	}

	fourth := apply(t, s, Delta{Removed: []string{WorkloadName("b"), "workload/never-was"}})
	svc4, _ := fourth.ServiceVIP(vip)
	if svc4.Ports[0].Endpoints[0].Workload != nil || fourth.Answered(podB) {
		t.Error("a removed workload is still there")
	}
	if fourth.Version() <= third.Version() {
		t.Error("versions do not grow")
	}
}

func TestAddressOfTwoPodsIsTheReadyOnes(t *testing.T) {
	for range 20 { // map order
		s := NewStore("n1")
		v := apply(t, s, Delta{Resources: []Resource{
			workload("new", "n1", true, podA), workload("old", "n1", false, podA), workload("zzz", "n1", false, podA),
		}})
		if w, _ := v.Workload(podA); w.UID != "new" {
			t.Fatalf("got %s", w.UID)
		}
	}
}

func TestBadDeltaChangesNothing(t *testing.T) {
	bad := map[string]Resource{
		"contents":        {Name: "workload/x", Version: "1"},
		"without a UID":   {Name: "workload/", Version: "1", Workload: &mesh.Workload{}},
		"content is that": {Name: "workload/x", Version: "1", Workload: &mesh.Workload{UID: "y"}},
		"not an IP":       {Name: "address/", Version: "1", Address: &Address{}},
		"empty trust":     {Name: AnchorsName, Version: "1", Anchors: &Anchors{}},
	}
	for want, r := range bad {
		s := NewStore("n1")
		before := s.View()
		err := s.Apply(Delta{Resources: []Resource{workload("a", "n1", true, podA), r}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
		if s.View() != before || len(s.Versions()) != 0 {
			t.Errorf("%s: the state changed", want)
		}
	}
}

func TestWatchCoalesces(t *testing.T) {
	s := NewStore("n1")
	changes, cancel := s.Watch()
	for range 3 {
		apply(t, s, Delta{})
	}
	<-changes
	select {
	case <-changes:
		t.Error("signalled twice for changes that one receive stands for")
	default:
	}
	cancel()
	apply(t, s, Delta{})
	select {
	case <-changes:
		t.Error("signalled after cancel")
	default:
	}
}

func TestVersionsAndDump(t *testing.T) {
	s := NewStore("n1")
	v := apply(t, s, Delta{Version: 3, Resources: []Resource{
		workload("b", "n2", true, podB), service("1", map[string]netip.Addr{"b": podB}), address(vip), address(far),
	}})
	want := map[string]string{"workload/b": "bn2+", "service/ns/web": "1", "address/10.96.0.1": "1", "address/192.0.2.1": "1"}
	if diff := cmp.Diff(want, s.Versions()); diff != "" {
		t.Error(diff)
	}
	b, err := json.Marshal(v.Dump())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"controllerVersion":3`, `"WorkloadUID":"b"`, `"unknown":["192.0.2.1"]`} {
		if !strings.Contains(string(b), part) {
			t.Errorf("dump lacks %s: %s", part, b)
		}
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	s := NewStore("n1")
	apply(t, s, Delta{Resources: []Resource{workload("b", "n1", true, podB), service("1", map[string]netip.Addr{"b": podB}), address(far)}})
	mapped := netip.AddrPortFrom(netip.AddrFrom16(vip.As16()), 80)
	external := netip.AddrPortFrom(far, 80)
	n := testing.AllocsPerRun(100, func() {
		v := s.View()
		v.Workload(podB)
		v.Service(mapped)
		v.Service(external)
		v.ServiceVIP(vip)
		v.Answered(far)
		v.Local()
		v.WorkloadByUID("b")
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
