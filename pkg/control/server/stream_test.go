package server

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
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
	st, err := newSyncState(newNumbers(), "n1", &pb.SyncRequest{})
	if err != nil {
		t.Fatal(err)
	}
	d := st.next(NewSnapshot(1, Content{Workloads: []*mesh.Workload{a}}, nil)).message()
	if diff := cmp.Diff([]string{"workload/uid-a"}, names(d)); diff != "" || !d.InitialSyncDone {
		t.Fatal(diff)
	}
	s2 := NewSnapshot(2, Content{Workloads: []*mesh.Workload{a, pod("b", "n1", podB)}}, nil)
	if st.next(s2).message() != nil {
		t.Fatal("a second delta before the answer to the first")
	}
	handle(t, st, &pb.SyncRequest{Answer: &pb.Answer{Nonce: d.Nonce + 1}})
	if st.next(s2).message() != nil {
		t.Fatal("another nonce counts as an answer")
	}
	handle(t, st, ack(d))
	d = st.next(NewSnapshot(9, Content{Workloads: []*mesh.Workload{pod("c", "n1", podC)}}, nil)).message()
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
	st, _ := newSyncState(newNumbers(), "n1", &pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{vip})})
	var all []string
	pieces := 0
	for d := st.next(snap).message(); d != nil; d = st.next(snap).message() {
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
	st, _ := newSyncState(newNumbers(), "n1", &pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{vip, podB})})
	d := st.next(snap).message()
	handle(t, st, ack(d))
	handle(t, st, &pb.SyncRequest{Unsubscribe: codec.EncodeAddrs([]netip.Addr{vip})})
	d = st.next(snap).message()
	if diff := cmp.Diff([]string{"address/10.96.0.1", "service/ns/web"}, d.GetRemoved()); diff != "" {
		t.Error(diff)
	}
	handle(t, st, ack(d))
	handle(t, st, &pb.SyncRequest{Unsubscribe: codec.EncodeAddrs([]netip.Addr{podB})})
	if diff := cmp.Diff([]string{"address/10.1.0.2", "workload/uid-b"}, st.next(snap).message().GetRemoved()); diff != "" {
		t.Error(diff)
	}
}

func TestBadRequests(t *testing.T) {
	for name, req := range map[string]*pb.SyncRequest{
		"subscribe":   {Subscribe: [][]byte{{1, 2, 3}}},
		"unsubscribe": {Unsubscribe: [][]byte{{}}},
	} {
		if _, err := newSyncState(newNumbers(), "n1", req); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many [][]byte
	addr := podA
	for range control.MaxSubscriptions + 1 {
		many = append(many, addr.AsSlice())
		addr = addr.Next()
	}
	if _, err := newSyncState(newNumbers(), "n1", &pb.SyncRequest{Subscribe: many}); err == nil {
		t.Error("subscriptions have no bound")
	}
}

func TestVersionIsThatOfTheContent(t *testing.T) {
	versions := func(c Content) map[string]version {
		out := map[string]version{}
		for name, r := range NewSnapshot(1, c, nil).byName.All() {
			out[name] = r.version
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
		st, err := newSyncState(newNumbers(), "n1", &r)
		if err != nil {
			return
		}
		for i := range 10 {
			d := st.next(snap).message()
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
