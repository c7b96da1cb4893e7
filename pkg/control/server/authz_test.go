package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// TestWhoGetsPolicies: the agent of the pod's node, before the pod itself. One that does
// not know policies gets the pod as a strict one.
func TestWhoGetsPolicies(t *testing.T) {
	a := pod("a", "n1", podA)
	a.Authorized = true
	content := Content{
		Workloads: []*mesh.Workload{a, pod("b", "n2", podB)},
		Authz:     map[string]*authz.Spec{a.UID: {Groups: []authz.Group{{Name: "g"}}}},
	}
	snap := NewSnapshot(1, content, nil)
	for name, tc := range map[string]struct {
		node   string
		kinds  []string
		want   []string
		policy pb.Settings_Policy
	}{
		"its agent":                    {"n1", []string{control.KindAuthz}, []string{"authz/uid-a", "workload/uid-a"}, pb.Settings_ALLOW},
		"its agent, an older one":      {"n1", nil, []string{"workload/uid-a"}, pb.Settings_STRICT},
		"an agent with a client of it": {"n2", []string{control.KindAuthz}, []string{"workload/uid-a", "workload/uid-b", "address/10.0.0.1"}, pb.Settings_ALLOW},
	} {
		st, err := newSyncState(newNumbers(), tc.node, &pb.SyncRequest{Agent: &pb.Agent{Kinds: tc.kinds}})
		if err != nil {
			t.Fatal(err)
		}
		if tc.node == "n2" {
			st.subs[podA] = struct{}{}
			tc.want[2] = "address/" + podA.String()
		}
		d := st.next(snap).message()
		if diff := cmp.Diff(tc.want, names(d)); diff != "" {
			t.Errorf("%s: -want +got: %s", name, diff)
		}
		for _, r := range d.Resources {
			if r.Name == "workload/uid-a" && r.GetWorkload().GetSettings().GetPolicy() != tc.policy {
				t.Errorf("%s: policy of the pod: got %v, want %v", name, r.GetWorkload().GetSettings().GetPolicy(), tc.policy)
			}
		}
	}
	// A change of the policies reaches an agent that has the pod.
	st, err := newSyncState(newNumbers(), "n1", &pb.SyncRequest{Agent: &pb.Agent{Kinds: []string{control.KindAuthz}}})
	if err != nil {
		t.Fatal(err)
	}
	handle(t, st, ack(st.next(snap).message()))
	content.Authz = map[string]*authz.Spec{a.UID: {Groups: []authz.Group{{Name: "h"}}}}
	if diff := cmp.Diff([]string{"authz/uid-a"}, names(st.next(NewSnapshot(2, content, snap)).message())); diff != "" {
		t.Error("-want +got:", diff)
	}
}
