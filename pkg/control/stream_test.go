package control

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

func names(d *pb.Delta) (out []string) {
	for _, r := range d.GetResources() {
		out = append(out, r.Name)
	}
	return out
}

func ack(d *pb.Delta) *pb.SyncRequest {
	return &pb.SyncRequest{Answer: &pb.Answer{Nonce: d.Nonce}}
}

func handle(t *testing.T, s *syncState, req *pb.SyncRequest) {
	t.Helper()
	if _, err := s.handle(req); err != nil {
		t.Fatal(err)
	}
}

func TestSlowAgentSkipsIntermediateStates(t *testing.T) {
	a := pod("a", "n1", podA)
	st, err := newSyncState("n1", &pb.SyncRequest{})
	if err != nil {
		t.Fatal(err)
	}
	d := st.next(NewSnapshot(1, Content{Workloads: []*mesh.Workload{a}}, nil))
	if diff := cmp.Diff([]string{"workload/uid-a"}, names(d)); diff != "" || !d.InitialSyncDone {
		t.Fatal(diff)
	}
	s2 := NewSnapshot(2, Content{Workloads: []*mesh.Workload{a, pod("b", "n1", podB)}}, nil)
	if st.next(s2) != nil {
		t.Fatal("a second delta before the answer to the first")
	}
	handle(t, st, &pb.SyncRequest{Answer: &pb.Answer{Nonce: d.Nonce + 1}})
	if st.next(s2) != nil {
		t.Fatal("another nonce counts as an answer")
	}
	handle(t, st, ack(d))
	d = st.next(NewSnapshot(9, Content{Workloads: []*mesh.Workload{pod("c", "n1", podC)}}, nil))
	if diff := cmp.Diff([]string{"workload/uid-c"}, names(d)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"workload/uid-a"}, d.Removed); diff != "" {
		t.Error(diff)
	}
}

// TestLargeStateComesInPieces: each piece is small enough for gRPC, what others
// point to comes first, and only the last piece says that this is all.
func TestLargeStateComesInPieces(t *testing.T) {
	var pods []*mesh.Workload
	addr := podA
	for range 10_000 {
		p := pod("p"+addr.String(), "n1", addr)
		p.OwnerName = strings.Repeat("x", 200)
		pods = append(pods, p)
		addr = addr.Next()
	}
	snap := NewSnapshot(1, Content{Workloads: pods, Services: []*mesh.Service{serviceOf(pods...)}, Anchors: [][]byte{{1}}}, nil)
	st, _ := newSyncState("n1", &pb.SyncRequest{Subscribe: encodeAddrs([]netip.Addr{vip})})
	var all []string
	pieces := 0
	for d := st.next(snap); d != nil; d = st.next(snap) {
		pieces++
		if n := proto.Size(d); n > 3<<20 {
			t.Errorf("a delta of %d bytes", n)
		}
		all = append(all, names(d)...)
		if done := len(all) == len(pods)+3; d.InitialSyncDone != done {
			t.Errorf("after %d resources: done %v", len(all), d.InitialSyncDone)
		}
		handle(t, st, ack(d))
	}
	if pieces < 3 || len(all) != len(pods)+3 {
		t.Errorf("%d resources in %d pieces", len(all), pieces)
	}
	if all[0] != "anchors" || !slices.Equal(all[len(all)-2:], []string{"service/ns/web", "address/10.96.0.1"}) {
		t.Errorf("order: first %v, last %v", all[0], all[len(all)-2:])
	}
}

func TestUnsubscribeRemovesWhatNothingElseNeeds(t *testing.T) {
	a, b := pod("a", "n1", podA), pod("b", "n2", podB)
	snap := NewSnapshot(1, Content{Workloads: []*mesh.Workload{a, b}, Services: []*mesh.Service{serviceOf(a, b)}}, nil)
	st, _ := newSyncState("n1", &pb.SyncRequest{Subscribe: encodeAddrs([]netip.Addr{vip, podB})})
	d := st.next(snap)
	handle(t, st, ack(d))
	handle(t, st, &pb.SyncRequest{Unsubscribe: encodeAddrs([]netip.Addr{vip})})
	d = st.next(snap)
	if diff := cmp.Diff([]string{"address/10.96.0.1", "service/ns/web"}, d.GetRemoved()); diff != "" {
		t.Error(diff)
	}
	handle(t, st, ack(d))
	handle(t, st, &pb.SyncRequest{Unsubscribe: encodeAddrs([]netip.Addr{podB})})
	if diff := cmp.Diff([]string{"address/10.1.0.2", "workload/uid-b"}, st.next(snap).GetRemoved()); diff != "" {
		t.Error(diff)
	}
}

func TestBadRequests(t *testing.T) {
	for name, req := range map[string]*pb.SyncRequest{
		"subscribe":   {Subscribe: [][]byte{{1, 2, 3}}},
		"unsubscribe": {Unsubscribe: [][]byte{{}}},
	} {
		if _, err := newSyncState("n1", req); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many [][]byte
	addr := podA
	for range maxSubscriptions + 1 {
		many = append(many, addr.AsSlice())
		addr = addr.Next()
	}
	if _, err := newSyncState("n1", &pb.SyncRequest{Subscribe: many}); err == nil {
		t.Error("subscriptions have no bound")
	}
}

// TestEncodingKeepsEverything sends values with every field set through the
// wire form and back.
func TestEncodingKeepsEverything(t *testing.T) {
	w := pod("a", "n1", podA)
	w.Addrs = append(w.Addrs, netip.MustParseAddr("fd00::1"))
	w.HostNetwork, w.NetworkPolicy, w.Enrolled = true, true, true
	w.Settings = mesh.Settings{
		Policy: mesh.PolicyStrict, FailClosed: true, PlaintextFallback: true,
		SkipOutboundPorts: []mesh.PortRange{{First: 25, Last: 25}},
		SkipInboundPorts:  []mesh.PortRange{{First: 1, Last: 65535}},
		OpaquePorts:       []mesh.PortRange{{First: 3306, Last: 3307}, {First: 9000, Last: 9001}},
		RateLimit:         &mesh.RateLimit{Count: 100, Period: time.Second, Burst: 200},
		ClientRateLimit:   &mesh.RateLimit{Count: 1, Period: time.Hour, Burst: 1},
	}
	w.LeftOut, w.Zone = "host network", "a"
	svc := serviceOf(w)
	svc.SessionAffinity, svc.NodeLocal = true, true
	accrual, budget := mesh.DefaultFailureAccrual, mesh.DefaultRetryBudget
	svc.FailureAccrual, svc.RetryBudget = &accrual, &budget
	svc.Ports[0].Endpoints[0].ForZones, svc.Ports[0].Endpoints[0].ForNodes = []string{"a", "b"}, []string{"n1"}
	for _, v := range []any{*w, *svc, svc.Ports[0], svc.Ports[0].Endpoints[0], accrual, budget, w.Settings, *w.Settings.RateLimit} {
		noZeros(t, v) // what is added is to be looked at here
	}
	svc.Ports[0].AppProtocol = "kubernetes.io/h2c"
	svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.MustParseAddrPort("[fd00::2]:1")})
	d := &pb.Delta{Version: 5, Resources: []*pb.Resource{encodeWorkload(w), encodeService(svc), encodeAnchors([][]byte{{1}, {2}})}}
	b, err := proto.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back pb.Delta
	if err := proto.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	delta, _, err := decodeDelta(&back)
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
		r := encodeWorkload(w)
		edit(r.GetWorkload().Settings)
		return r
	}
	service := func(edit func(*pb.Service)) *pb.Resource {
		s := serviceOf()
		accrual, budget := mesh.DefaultFailureAccrual, mesh.DefaultRetryBudget
		s.FailureAccrual, s.RetryBudget = &accrual, &budget
		r := encodeService(s)
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
		if _, _, err := decodeDelta(overWire(t, r)); err == nil {
			t.Error(name, "is taken")
		}
	}
	for _, r := range []*pb.Resource{workload(func(*pb.Settings) {}), service(func(*pb.Service) {})} {
		if _, _, err := decodeDelta(overWire(t, r)); err != nil {
			t.Error(err)
		}
	}
}

func TestVersionIsThatOfTheContent(t *testing.T) {
	versions := func(c Content) map[string]string {
		out := map[string]string{}
		for name, r := range NewSnapshot(1, c, nil).byName {
			out[name] = r.Version
		}
		return out
	}
	a := pod("a", "n1", podA)
	first := versions(Content{Workloads: []*mesh.Workload{a}, Anchors: [][]byte{{1}}})
	again := versions(Content{Workloads: []*mesh.Workload{pod("a", "n1", podA)}, Anchors: [][]byte{{1}}})
	if !maps.Equal(first, again) {
		t.Error("equal content, different versions")
	}
	a.Settings.FailClosed = true
	if maps.Equal(first, versions(Content{Workloads: []*mesh.Workload{a}, Anchors: [][]byte{{1}}})) {
		t.Error("different content, equal versions")
	}
}

func TestInterestIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterest(time.Hour)
		i.limit = 100
		addr := podA
		for range 1000 {
			i.add(addr)
			addr = addr.Next()
			time.Sleep(time.Millisecond)
			i.touch(podA) // in use all the time
		}
		if n := i.len(); n > 100 {
			t.Errorf("%d addresses", n)
		}
		if i.used[podA] == nil {
			t.Error("an address in use was evicted before idle ones")
		}
		on, off := i.take()
		if len(on) != i.len() || len(off) != 1000-i.len() {
			t.Errorf("%d to subscribe, %d to unsubscribe, %d held", len(on), len(off), i.len())
		}
		time.Sleep(2 * time.Hour)
		i.sweep()
		if n := i.len(); n != 0 {
			t.Errorf("%d addresses after the sweep", n)
		}
		for _, a := range []string{"127.0.0.1", "::1", "224.0.0.1", "fe80::1", "0.0.0.0", "169.254.1.1"} {
			i.add(netip.MustParseAddr(a))
		}
		if n := i.len(); n != 0 {
			t.Errorf("%d addresses that nobody in a cluster has", n)
		}
	})
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	var b backoff
	for i := range 30 {
		if d := b.next(); d < 25*time.Millisecond || d > 5*time.Second {
			t.Errorf("retry %d after %s", i, d)
		}
	}
	if b.last != 5*time.Second {
		t.Error(b.last)
	}
}

// FuzzDelta feeds the agent what a controller might send.
func FuzzDelta(f *testing.F) {
	a := pod("a", "n1", podA)
	for _, d := range []*pb.Delta{
		{Version: 1, Resources: []*pb.Resource{encodeWorkload(a), encodeService(serviceOf(a)), encodeAddress(far), encodeAnchors([][]byte{{1}}), encodeRoute(fullRoute())}},
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
		delta, _, err := decodeDelta(&d)
		if err != nil {
			return
		}
		if err := store.Apply(delta); err == nil && store.View().Version() != 1 {
			t.Error("applied, and no new view")
		}
		_ = store.View().Dump()
	})
}

// FuzzSyncRequest feeds the server what an agent might send.
func FuzzSyncRequest(f *testing.F) {
	a := pod("a", "n1", podA)
	snap := NewSnapshot(1, Content{Workloads: []*mesh.Workload{a}, Services: []*mesh.Service{serviceOf(a)}, Anchors: [][]byte{{1}}}, nil)
	for _, r := range []*pb.SyncRequest{
		{Subscribe: [][]byte{vip.AsSlice(), {1}}, Versions: map[string]string{"workload/uid-a": "x", "gone": "1"}},
		{Answer: &pb.Answer{Nonce: 1, Error: "no"}, Unsubscribe: [][]byte{vip.AsSlice()}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r pb.SyncRequest
		if proto.Unmarshal(b, &r) != nil {
			return
		}
		st, err := newSyncState("n1", &r)
		if err != nil {
			return
		}
		for i := range 10 {
			d := st.next(snap)
			if d == nil {
				return
			}
			if i > 3 {
				t.Fatalf("delta %d of a small state: %s", i, fmt.Sprint(names(d)))
			}
			handle(t, st, ack(d))
		}
	})
}
