package destination

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// TestSharedKnowledge: connections of one pod to one target share what the view knows of it, until
// there is another view; nobody else does, and nothing is shared that depends on what was known
// before.
func TestSharedKnowledge(t *testing.T) {
	store := state.NewStore("node-1")
	pod := func(uid, addr string) *mesh.Workload {
		return &mesh.Workload{UID: uid, Node: "node-1", Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
	}
	client, other, server := pod("client", "10.0.0.1"), pod("other", "10.0.0.2"), pod("server", "10.0.0.3")
	version := uint64(0)
	apply := func(all ...*mesh.Workload) {
		t.Helper()
		version++
		d := state.Delta{Version: version, Synced: true}
		for _, w := range all {
			d.Resources = append(d.Resources, state.Resource{Name: state.WorkloadName(w.UID), Version: fmt.Sprint(version), Workload: w})
		}
		if err := store.Apply(d); err != nil {
			t.Fatal(err)
		}
	}
	apply(client, other, server)
	d := newDirectory(store)
	dst := netip.MustParseAddrPort("10.0.0.3:80")
	known := func(local *mesh.Workload, dst netip.AddrPort) *knowledge {
		return d.Outbound(local, dst, inPlace).known.Load()
	}
	first := known(client, dst)
	if first.pod == nil || first.pod.UID != server.UID || first.local.UID != client.UID {
		t.Fatalf("the client knows %+v, want the server", first)
	}
	if known(client, dst) != first {
		t.Error("the next connection looks again, want it to share")
	}
	for what, k := range map[string]*knowledge{
		"another pod":  known(other, dst),
		"another port": known(client, netip.AddrPortFrom(dst.Addr(), 81)),
	} {
		if k == first {
			t.Errorf("%s shares what the client knows", what)
		}
	}
	d.Forget()
	if known(client, dst) == first {
		t.Error("after a round nobody has looked, want that the next connection does")
	}
	moved := pod("server-2", "10.0.0.3")
	apply(pod("server", "10.0.0.4"), moved)
	if k := known(client, dst); k.pod == nil || k.pod.UID != moved.UID {
		t.Errorf("in the next view the client knows %+v, want server-2", k.pod)
	}
	// A client that the view does not have is as its connection says.
	stranger := pod("stranger", "10.0.0.9")
	strict := pod("stranger", "10.0.0.9")
	strict.Settings.FailClosed = true
	if known(stranger, dst).local != stranger || known(strict, dst).local != strict {
		t.Error("a client that the view does not have is another one's")
	}
	// Nor is what the controller has not answered shared.
	nowhere := netip.MustParseAddrPort("10.7.0.1:80")
	if first, second := known(client, nowhere), known(client, nowhere); first == second {
		t.Error("what is unanswered is shared")
	}
}
