package codec

import (
	"math"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

var (
	podA = netip.MustParseAddr("10.1.0.1")
	vip  = netip.MustParseAddr("10.96.0.1")
	far  = netip.MustParseAddr("192.0.2.1")
)

func pod(name, node string, addr netip.Addr) *mesh.Workload {
	return &mesh.Workload{
		UID: "uid-" + name, Name: name, Namespace: "ns", ServiceAccount: name, Node: node,
		OwnerKind: "pod", OwnerName: name, Addrs: []netip.Addr{addr}, Meshed: true, Ready: true,
		Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "ns", ServiceAccount: name},
	}
}

func serviceOf(pods ...*mesh.Workload) *mesh.Service {
	port := mesh.ServicePort{Name: "http", Port: 80}
	for _, p := range pods {
		port.Endpoints = append(port.Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(p.Addrs[0], 8080), WorkloadUID: p.UID, Workload: p, Ready: true})
	}
	return &mesh.Service{Name: "web", Namespace: "ns", VIPs: []netip.Addr{vip}, Ports: []mesh.ServicePort{port}}
}

// overWire returns what arrives of a resource.
func overWire(t *testing.T, r *pb.Resource) *pb.Delta {
	t.Helper()
	b, err := proto.Marshal(&pb.Delta{Version: 1, Resources: []*pb.Resource{r}})
	if err != nil {
		t.Fatal(err)
	}
	var back pb.Delta
	if err := proto.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	return &back
}

// TestEncodingKeepsEverything sends values with every field set through the
// wire form and back.
func TestEncodingKeepsEverything(t *testing.T) {
	w := pod("a", "n1", podA)
	w.Observed = true
	w.Addrs = append(w.Addrs, netip.MustParseAddr("fd00::1"))
	w.HostNetwork, w.NetworkPolicy, w.Enrolled, w.Leaving, w.Terminating = true, true, true, true, true
	w.OwnLabel, w.OwnSettings = true, true
	w.Settings = mesh.Settings{
		Policy: mesh.PolicyStrict, FailClosed: true, PlaintextFallback: true, Ingress: true,
		SkipOutboundPorts: []mesh.PortRange{{First: 25, Last: 25}},
		SkipInboundPorts:  []mesh.PortRange{{First: 1, Last: 65535}},
		OpaquePorts:       []mesh.PortRange{{First: 3306, Last: 3307}, {First: 9000, Last: 9001}},
		RateLimit:         &mesh.RateLimit{Count: 100, Period: time.Second, Burst: 200},
		ClientRateLimit:   &mesh.RateLimit{Count: 1, Period: time.Hour, Burst: 1},
		AccessLog:         mesh.AccessLogJSON,
		TraceSampling:     &mesh.TraceSampling{Off: true, PerMillion: 50_000},
	}
	w.LeftOut, w.Zone = "host network", "a"
	w.Authorized, w.Limited, w.RequestRules = true, true, true
	w.Labels = "app=web,tier=front"
	svc := serviceOf(w)
	svc.SessionAffinity, svc.NodeLocal = true, true
	accrual, budget := mesh.DefaultFailureAccrual, mesh.DefaultRetryBudget
	svc.FailureAccrual, svc.RetryBudget = &accrual, &budget
	svc.Ports[0].Endpoints[0].ForZones, svc.Ports[0].Endpoints[0].ForNodes = []string{"a", "b"}, []string{"n1"}
	svc.Ports[0].NodePort = 30080
	svc.Ports[0].External = []netip.Addr{far, netip.MustParseAddr("2001:db8::1")}
	for _, v := range []any{*w, *svc, svc.Ports[0], svc.Ports[0].Endpoints[0], accrual, budget, w.Settings, *w.Settings.RateLimit, *w.Settings.TraceSampling} {
		noZeros(t, v) // what is added is to be looked at here
	}
	svc.Ports[0].AppProtocol = "kubernetes.io/h2c"
	svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.MustParseAddrPort("[fd00::2]:1")})
	d := &pb.Delta{Version: 5, Resources: []*pb.Resource{EncodeWorkload(w), EncodeService(svc), EncodeAnchors([][]byte{{1}, {2}})}}
	b, err := proto.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back pb.Delta
	if err := proto.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	delta, _, err := DecodeDelta(&back)
	if err != nil {
		t.Fatal(err)
	}
	store := state.NewStore("n1")
	if err := store.Apply(delta); err != nil {
		t.Fatal(err)
	}
	addrs := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	ports := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	got, _ := store.View().WorkloadByUID("uid-a")
	if diff := cmp.Diff(w, got, addrs); diff != "" {
		t.Error(diff)
	}
	gotSvc, _ := store.View().ServiceVIP(vip)
	if diff := cmp.Diff(svc, gotSvc, addrs, ports); diff != "" {
		t.Error(diff)
	}
}

// noZeros fails for fields that are at their zero value.
func noZeros(t *testing.T, v any) {
	t.Helper()
	for field, value := range reflect.ValueOf(v).Fields() {
		if name := field.Name; value.IsZero() && name != "AppProtocol" {
			t.Fatalf("%T.%s is not set", v, name)
		}
	}
}

// TestRangesAreChecked: half-understood state is never acted on.
func TestRangesAreChecked(t *testing.T) {
	workload := func(edit func(*pb.Settings)) *pb.Resource {
		w := pod("a", "n1", podA)
		limit := mesh.RateLimit{Count: 1, Period: time.Second, Burst: 1}
		w.Settings.RateLimit, w.Settings.ClientRateLimit = &limit, &limit
		r := EncodeWorkload(w)
		edit(r.GetWorkload().Settings)
		return r
	}
	service := func(edit func(*pb.Service)) *pb.Resource {
		s := serviceOf()
		accrual, budget := mesh.DefaultFailureAccrual, mesh.DefaultRetryBudget
		s.FailureAccrual, s.RetryBudget = &accrual, &budget
		r := EncodeService(s)
		edit(r.GetService())
		return r
	}
	for name, r := range map[string]*pb.Resource{
		"no requests": workload(func(s *pb.Settings) { s.RateLimit.Count = 0 }),
		"no burst":    workload(func(s *pb.Settings) { s.ClientRateLimit.Burst = 0 }),
		"no period":   workload(func(s *pb.Settings) { s.RateLimit.Period = nil }),
		"huge":        workload(func(s *pb.Settings) { s.RateLimit.Count = math.MaxUint32 }),
		"no rate":     service(func(s *pb.Service) { s.FailureAccrual.SuccessRate = math.NaN() }),
		"above all":   service(func(s *pb.Service) { s.FailureAccrual.SuccessRate = 1.5 }),
		"no window":   service(func(s *pb.Service) { s.FailureAccrual.Window = nil }),
		"no penalty":  service(func(s *pb.Service) { s.FailureAccrual.MinPenalty = nil }),
		"penalties": service(func(s *pb.Service) {
			s.FailureAccrual.MaxPenalty = s.FailureAccrual.Window
			s.FailureAccrual.MinPenalty.Seconds = 11
		}),
		"bad duration":  service(func(s *pb.Service) { s.FailureAccrual.MaxPenalty.Nanos = 2e9 }),
		"percent":       service(func(s *pb.Service) { s.RetryBudget.Percent = 101 }),
		"interval":      service(func(s *pb.Service) { s.RetryBudget.Interval.Seconds = 3601 }),
		"without least": service(func(s *pb.Service) { s.RetryBudget.MinInterval = nil }),
	} {
		if _, _, err := DecodeDelta(overWire(t, r)); err == nil {
			t.Error(name, "is taken")
		}
	}
	for _, r := range []*pb.Resource{workload(func(*pb.Settings) {}), service(func(*pb.Service) {})} {
		if _, _, err := DecodeDelta(overWire(t, r)); err != nil {
			t.Error(err)
		}
	}
}

func TestPodsAndRangesKeepEverything(t *testing.T) {
	v6 := netip.MustParseAddr("fd00:1::7")
	pods := []control.PodStatus{{UID: "a", State: "pending", Reason: "why", PreMesh: 3, Leaving: true, Addrs: control.ByFamily([]netip.Addr{podA, far, v6, podA})}}
	noZeros(t, pods[0])
	if got := DecodePods(EncodePods(pods)); !slices.Equal(got, pods) || got[0].Addrs != [2]netip.Addr{podA, v6} {
		t.Errorf("got %+v, want %+v", got, pods)
	}
	odd := []*pb.PodStatus{{Uid: "a", Addrs: [][]byte{{1}, {127, 0, 0, 1}, nil, v6.AsSlice()}}}
	if got := DecodePods(odd)[0].Addrs; got != [2]netip.Addr{{}, v6} {
		t.Errorf("what is no address of a pod: got %v", got)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00:1::/64")}
	delta, skipped, err := DecodeDelta(overWire(t, EncodeRanges(want)))
	if err != nil || len(skipped) > 0 {
		t.Fatal(err, skipped)
	}
	if diff := cmp.Diff(want, delta.Resources[0].Ranges.Prefixes, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error("-want +got:", diff)
	}
}

// FuzzDelta feeds the agent what a controller might send.
func FuzzDelta(f *testing.F) {
	a := pod("a", "n1", podA)
	for _, d := range []*pb.Delta{
		{Version: 1, Resources: []*pb.Resource{EncodeWorkload(a), EncodeService(serviceOf(a)), EncodeAddress(far, true), EncodeAnchors([][]byte{{1}}), EncodeRoute(fullRoute())}},
		{Removed: []string{"workload/uid-a"}, InitialSyncDone: true},
		{Resources: []*pb.Resource{{Name: "workload/x"}}},
		{Resources: []*pb.Resource{{Name: "service/a/b", Content: &pb.Resource_Service{Service: &pb.Service{
			Name: "b", Namespace: "a", Ports: []*pb.ServicePort{{Port: 1 << 20}},
		}}}}},
	} {
		b, err := proto.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var d pb.Delta
		if proto.Unmarshal(b, &d) != nil {
			return
		}
		store := state.NewStore("n1")
		delta, _, err := DecodeDelta(&d)
		if err != nil {
			return
		}
		if err := store.Apply(delta); err == nil && store.View().Version() != 1 {
			t.Error("applied, and no new view")
		}
		_ = store.View().Dump()
	})
}
