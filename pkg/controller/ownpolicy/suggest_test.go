package ownpolicy

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/rehearse"
)

// TestSuggested: what is suggested for random calls allows all of them, and nothing that did
// not occur unless a note says so.
func TestSuggested(t *testing.T) {
	r := rand.NewChaCha8([32]byte{3})
	tight := 0
	for range 300 {
		data := make([]byte, 200)
		r.Read(data)
		m := &maker{data}
		random := func() rehearse.Call {
			c := rehearse.Call{Target: rehearse.Target{Namespace: "a", Kind: "deployment", Name: "web"}, Address: netip.MustParseAddr("10.1.1.1"), Port: pick(m, uint16(80), 81)}
			c.Client = pick(m, mesh.Identity{TrustDomain: "home", Namespace: "a", ServiceAccount: "x"}, mesh.Identity{TrustDomain: "home", Namespace: "b", ServiceAccount: "x"},
				mesh.Identity{TrustDomain: "away", Namespace: "a", ServiceAccount: "x"}, mesh.Identity{TrustDomain: "home", Namespace: "a", ServiceAccount: "y"})
			if m.n(20) == 19 {
				c.Client = mesh.Identity{}
			}
			if c.Method = pick(m, "GET", "POST", "GET", "POST", "GET", "POST", "GET", ""); c.Method != "" {
				c.Path = pick(m, "/", "/a", "/a/b", "/a/c", "/b")
			}
			return c
		}
		calls := rehearse.NewCalls(100)
		for range 1 + m.n(12) {
			calls.Add(random(), 1)
		}
		all := rehearse.Suggest(calls, rehearse.Options{TrustDomain: "home", Requests: true, MaxPaths: 2 + m.n(4)})
		if len(all) != 1 {
			t.Fatalf("got %d policies, want 1", len(all))
		}
		policy := all[0].Policy
		policy.Spec.TargetRefs[0].Selector = new(metav1.LabelSelector)
		object, err := json.Marshal(&policy)
		if err != nil {
			t.Fatal(err)
		}
		p, ok, err := Read(object, "home")
		if err != nil || !ok || len(p.Problems) > 0 {
			t.Fatalf("%s: got %v, %v, %v", object, ok, err, p.Problems)
		}
		set, _ := authz.Compile([]authz.Policy{p.Authz}, authz.Options{TrustDomain: "home"})
		allowed := func(c rehearse.Call) bool {
			conn := &authz.Connection{Peer: authz.PeerOf(c.Client), Client: c.Address, Port: c.Port}
			if c.Method == "" {
				return set.DecideConnection(conn).Opaque().Verdict == authz.Allow
			}
			return set.DecideRequest(conn, &authz.Request{Method: c.Method, Path: c.Path}).Verdict == authz.Allow
		}
		whole := map[rehearse.Call]bool{} // a client has sent bytes that are no requests to a port
		for c := range calls.Counts {
			if !allowed(c) {
				t.Fatalf("%+v is denied by %s", c, object)
			}
			if c.Method == "" {
				whole[c] = true
			}
		}
		if len(all[0].Notes) > 0 {
			continue
		}
		for range 20 {
			c := random()
			connection := c
			connection.Method, connection.Path = "", ""
			if _, occurred := calls.Counts[c]; !occurred && !whole[connection] && allowed(c) {
				t.Fatalf("%+v did not occur, and is allowed by %s", c, object)
			}
			tight++
		}
	}
	if tight < 200 {
		t.Errorf("%d calls were tried that did not occur, want 200", tight)
	}
}
