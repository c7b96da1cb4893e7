package quota

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestAccountsOutliveConnections: what a pod has used is still known when it has no
// connections, its next connection is charged to the same account, and it is forgotten when
// the pod has ended.
func TestAccountsOutliveConnections(t *testing.T) {
	p := &Pods{MaxConns: 10, Shares: fairshare.New(2)}
	outbound := Key{UID: "a", Direction: mesh.Outbound}
	enter := func(key Key) *Usage {
		t.Helper()
		u, err := p.Enter(key, PodSource(key.UID), 2)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := enter(outbound)
	account := u.Account()
	var task fairshare.Task
	task.Charge(account)
	task.Resume()
	for began := time.Now(); time.Since(began) < time.Millisecond; {
	}
	task.Pause()
	p.Handshake(outbound, 3*time.Second)
	u.Leave()

	all := slices.Collect(p.All())
	if len(all) != 1 || all[0].Work < time.Millisecond {
		t.Fatalf("without connections: got %+v, want one pod with 1ms of work", all)
	}
	want := Used{Key: outbound, Weight: fairshare.DefaultWeight, Work: all[0].Work, Handshakes: 3 * time.Second}
	if diff := cmp.Diff(want, all[0]); diff != "" {
		t.Errorf("without connections (-want +got):\n%s", diff)
	}
	u = enter(outbound)
	if u.Account() != account {
		t.Error("the next connection has another account, want the same")
	}
	gone := func(string) bool { return false }
	p.Retain(gone)
	if all := slices.Collect(p.All()); len(all) != 1 {
		t.Errorf("a pod with a connection: got %+v, want it retained", all)
	}
	u.Leave()
	p.Retain(func(uid string) bool { return uid == "a" })
	if all := slices.Collect(p.All()); len(all) != 1 {
		t.Errorf("a pod that is there: got %+v, want it retained", all)
	}
	p.Retain(gone)
	if all := slices.Collect(p.All()); len(all) != 0 {
		t.Errorf("a pod that has ended: got %+v, want it forgotten", all)
	}
}

// TestWeightsOfPods: a pod's weight holds in both directions, for accounts that are there
// and for later ones, until the pod has ended.
func TestWeightsOfPods(t *testing.T) {
	p := &Pods{MaxConns: 10, Shares: fairshare.New(2)}
	weights := func() (list []int) {
		for used := range p.All() {
			list = append(list, used.Weight)
		}
		return list
	}
	enter := func(uid string, d mesh.Direction) {
		t.Helper()
		u, err := p.Enter(Key{UID: uid, Direction: d}, PodSource(uid), 2)
		if err != nil {
			t.Fatal(err)
		}
		u.Leave()
	}
	enter("a", mesh.Outbound)
	p.SetWeight("a", 40)
	enter("a", mesh.Inbound)
	enter("b", mesh.Inbound)
	if diff := cmp.Diff([]int{40, 40, fairshare.DefaultWeight}, weights()); diff != "" {
		t.Errorf("weights (-want +got):\n%s", diff)
	}
	p.Retain(func(string) bool { return false })
	enter("a", mesh.Outbound)
	if diff := cmp.Diff([]int{fairshare.DefaultWeight}, weights()); diff != "" {
		t.Errorf("after the pod's end (-want +got):\n%s", diff)
	}
}
