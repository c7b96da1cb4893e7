package policy

import (
	mathrand "math/rand"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"testing/quick"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

const domain = "cluster.local"

var (
	web     = mesh.Identity{TrustDomain: domain, Namespace: "shop", ServiceAccount: "web"}
	foreign = mesh.Identity{TrustDomain: "evil.org", Namespace: "shop", ServiceAccount: "web"}
)

func server(mode mesh.PolicyMode) *mesh.Workload {
	return &mesh.Workload{
		Identity: mesh.Identity{TrustDomain: domain, Namespace: "shop", ServiceAccount: "store"},
		Settings: mesh.Settings{Policy: mode},
	}
}

func TestDecide(t *testing.T) {
	deny := func(r mesh.Reason) Verdict { return Verdict{Reason: r} }
	allow := Verdict{Allowed: true}
	for name, tc := range map[string]struct {
		in   Input
		want Verdict
	}{
		"allow, no identity":                 {Input{Server: server(mesh.PolicyAllow)}, allow},
		"allow, mesh":                        {Input{Server: server(mesh.PolicyAllow), Client: web}, allow},
		"allow, foreign":                     {Input{Server: server(mesh.PolicyAllow), Client: foreign}, allow},
		"strict, mesh":                       {Input{Server: server(mesh.PolicyStrict), Client: web}, allow},
		"strict, no identity":                {Input{Server: server(mesh.PolicyStrict)}, deny(mesh.ReasonNoIdentity)},
		"strict, foreign":                    {Input{Server: server(mesh.PolicyStrict), Client: foreign}, deny(mesh.ReasonPolicyDenied)},
		"strict, kubelet":                    {Input{Server: server(mesh.PolicyStrict), ClientIsNode: true}, allow},
		"strict, unknown mode":               {Input{Server: server(mesh.PolicyMode(200))}, deny(mesh.ReasonNoIdentity)},
		"strict, server without an identity": {Input{Server: &mesh.Workload{Settings: mesh.Settings{Policy: mesh.PolicyStrict}}, Client: web}, deny(mesh.ReasonPolicyDenied)},
		"unknown server":                     {Input{Client: web}, deny(mesh.ReasonPolicyDenied)},
		"unknown server, kubelet":            {Input{ClientIsNode: true}, deny(mesh.ReasonPolicyDenied)},
		"zero Input":                         {Input{}, deny(mesh.ReasonPolicyDenied)},
	} {
		if diff := cmp.Diff(tc.want, Decide(tc.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// inputs generates connections from small sets of values, so that equal trust
// domains and corner cases are common.
func inputs(values []reflect.Value, r *rand.Rand) {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	identity := func() mesh.Identity {
		if r.IntN(4) == 0 {
			return mesh.Identity{}
		}
		return mesh.Identity{TrustDomain: pick(domain, "evil.org"), Namespace: pick("a", "b"), ServiceAccount: pick("x", "y")}
	}
	in := Input{
		Client: identity(), ClientIsNode: r.IntN(4) == 0, Port: uint16(r.Uint32()),
		ClientAddr: netip.AddrFrom4([4]byte{10, 0, byte(r.Uint32()), byte(r.Uint32())}),
	}
	if r.IntN(8) != 0 {
		in.Server = &mesh.Workload{Identity: identity(), Settings: mesh.Settings{Policy: mesh.PolicyMode(r.IntN(2))}}
	}
	values[0] = reflect.ValueOf(in)
}

// TestProperties checks what must be true of every policy, present and future.
func TestProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	check := func(in Input) bool {
		v := Decide(in)
		if v.Allowed != (v.Reason == mesh.ReasonNone) {
			t.Logf("got %+v, want a reason if and only if the client is denied", v)
			return false
		}
		if again := Decide(in); again != v {
			t.Logf("not a pure function: got %+v and then %+v", v, again)
			return false
		}
		if !v.Allowed {
			// A client that is denied is also denied without its identity.
			anonymous := in
			anonymous.Client = mesh.Identity{}
			if got := Decide(anonymous); got.Allowed {
				t.Logf("without its identity: got %+v, want denied, as with it: %+v", got, v)
				return false
			}
		}
		if in.Server != nil && in.Server.Settings.Policy == mesh.PolicyStrict && v.Allowed && !in.ClientIsNode {
			if in.Client.IsZero() || in.Client.TrustDomain != in.Server.Identity.TrustDomain {
				t.Logf("strict admitted %q, want only identities of %q", in.Client, in.Server.Identity.TrustDomain)
				return false
			}
		}
		// PolicyAllow admits every client that PolicyStrict admits.
		if in.Server != nil && v.Allowed {
			open := *in.Server
			open.Settings.Policy = mesh.PolicyAllow
			in.Server = &open
			return Decide(in).Allowed
		}
		return true
	}
	config := &quick.Config{MaxCount: 20_000, Values: func(v []reflect.Value, _ *mathrand.Rand) { inputs(v, r) }}
	if err := quick.Check(check, config); err != nil {
		t.Error(err)
	}
}

func TestDecideIsFree(t *testing.T) {
	in := Input{Server: server(mesh.PolicyStrict), Client: web}
	if got := testing.AllocsPerRun(1000, func() { _ = Decide(in) }); got != 0 {
		t.Errorf("Decide: got %v allocations, want 0", got)
	}
}
