package destination

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// homeRig is a directory of a node whose controller may be away.
type homeRig struct {
	*Directory
	t       *testing.T
	store   *state.Store
	version int
	away    bool
	waits   int
}

// homeState is the rig's state. The controller has answered about an address only if the
// store says so.
type homeState struct {
	proxytest.State
	rig *homeRig
}

func (s *homeState) Connected() bool { return !s.rig.away }

func (s *homeState) Await(ctx context.Context, addr netip.Addr, known func(*state.View) bool) error {
	if s.rig.away {
		return errors.New("the controller is away")
	}
	return s.State.Await(ctx, addr, known)
}

func newHomeRig(t *testing.T) *homeRig {
	r := &homeRig{t: t, store: state.NewStore("node-2")}
	r.Directory = newDirectory(r.store)
	r.State, r.ResolveTimeout = &homeState{proxytest.State{Store: r.store}, r}, 5*time.Second
	return r
}

func (r *homeRig) apply(resources ...state.Resource) {
	r.t.Helper()
	r.version++
	for i := range resources {
		resources[i].Version = strconv.Itoa(r.version)
	}
	if err := r.store.Apply(state.Delta{Version: uint64(r.version), Resources: resources, Synced: true}); err != nil {
		r.t.Fatal(err)
	}
}

// admit returns the reason and the identity of a peer at addr, and how long it took.
func (r *homeRig) admit(addr string, id mesh.Identity, local *mesh.Workload) (mesh.Reason, mesh.Identity, time.Duration) {
	start := time.Now()
	got, err := r.AdmitPeer(context.Background(), netip.MustParseAddr(addr), id, local, func(wait func()) {
		r.waits++
		wait()
	})
	if err == nil {
		return mesh.ReasonNone, got, time.Since(start)
	}
	reason, _ := errors.AsType[*mesh.ReasonError](err)
	return reason.Reason, got, time.Since(start)
}

func account(name string) mesh.Identity {
	return mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: name}
}

func homePod(name, account string, meshed bool, addrs ...string) state.Resource {
	w := &mesh.Workload{
		UID: name, Name: name, Namespace: "default", Node: "node-1", Meshed: meshed,
		Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: account},
	}
	for _, a := range addrs {
		w.Addrs = append(w.Addrs, netip.MustParseAddr(a))
	}
	return state.Resource{Name: state.WorkloadName(name), Workload: w}
}

func answer(addr string) state.Resource {
	a := netip.MustParseAddr(addr)
	return state.Resource{Name: state.AddressName(a), Address: &state.Address{Addr: a}}
}

var (
	allowing = &mesh.Workload{UID: "server", Name: "server", Namespace: "default"}
	strict   = &mesh.Workload{UID: "vault", Name: "vault", Namespace: "default", Settings: mesh.Settings{Policy: mesh.PolicyStrict}}
)

func TestCertificateIsGoodAtHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHomeRig(t)
		onHost := homePod("on-host", "web", false, "192.168.0.1")
		onHost.Workload.HostNetwork = true
		leaving := homePod("leaving", "web", false, "10.1.0.5")
		leaving.Workload.Leaving = true
		r.apply(
			homePod("web-1", "web", true, "10.1.0.1", "fd00::1"), homePod("web-2", "web", true, "10.1.0.2"),
			homePod("db", "db", true, "10.1.0.3"), homePod("plain", "web", false, "10.1.0.4"), leaving, onHost,
			answer("192.168.0.1"), answer("10.1.0.9"), answer("fe80::1"),
			state.Resource{Name: state.ServiceName("default", "web"), Service: &mesh.Service{
				Name: "web", Namespace: "default", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
			}},
		)
		for _, addr := range []string{"10.1.0.1", "::ffff:10.1.0.1", "fd00::1", "10.1.0.2", "10.1.0.5"} {
			for _, local := range []*mesh.Workload{allowing, strict} {
				if reason, got, took := r.admit(addr, account("web"), local); reason != mesh.ReasonNone || got != account("web") || took > 0 || r.waits > 0 {
					t.Errorf("%s, policy %s: got %q, identity %s, after %s; want the identity at once", addr, local.Settings.Policy, reason, got, took)
				}
			}
		}
		for addr, what := range map[string]string{
			"10.1.0.3": "a pod of another identity", "10.1.0.4": "an unlabelled pod of the identity", "10.1.0.9": "nobody",
			"192.168.0.1": "a pod on the host's network", "10.9.0.1": "a Service",
		} {
			for i, local := range []*mesh.Workload{allowing, strict} {
				reason, got, took := r.admit(addr, account("web"), local)
				if want := []time.Duration{r.ResolveTimeout, 0}[i]; reason != mesh.ReasonElsewhere || !got.IsZero() || took != want {
					t.Errorf("%s at %s, policy %s: got %q, identity %s, after %s; want %q after %s",
						what, addr, local.Settings.Policy, reason, got, took, mesh.ReasonElsewhere, want)
				}
			}
		}
		if reason, _, _ := r.admit("10.1.0.3", account("db"), strict); reason != mesh.ReasonNone {
			t.Errorf("an address at which another identity was refused: %q", reason)
		}
	})
}

// TestNewPodIsAwaited: a pod that connects before this node has heard of it is admitted
// when the state has it, also at an address where it was refused before.
func TestNewPodIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newHomeRig(t)
		r.apply(answer("10.1.0.1"), homePod("old", "db", true, "10.1.0.2"))
		for _, addr := range []string{"10.1.0.1", "10.1.0.2", "10.1.0.3"} {
			gone := homePod("old", "db", true)
			time.AfterFunc(2*time.Second, func() { r.apply(gone, homePod("new", "web", true, addr)) })
			if reason, got, took := r.admit(addr, account("web"), strict); reason != mesh.ReasonNone || got != account("web") || took != 2*time.Second {
				t.Errorf("%s: got %q, identity %s, after %s; want the identity after 2s", addr, reason, got, took)
			}
		}
		r.apply(answer("10.1.0.4"))
		if reason, _, _ := r.admit("10.1.0.4", account("web"), strict); reason != mesh.ReasonElsewhere {
			t.Errorf("no pod there: got %q, want %q", reason, mesh.ReasonElsewhere)
		}
		r.apply(homePod("late", "web", true, "10.1.0.4"))
		if reason, _, took := r.admit("10.1.0.4", account("web"), strict); reason != mesh.ReasonNone || took > 0 {
			t.Errorf("it is there by now: got %q after %s", reason, took)
		}
	})
}

// TestHomeWithoutController: what the node knows stays valid. A client that it does not
// know has no identity: a strict pod refuses it, and others take it as one from outside.
func TestHomeWithoutController(t *testing.T) {
	for name, away := range map[string]bool{"away": true, "silent": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newHomeRig(t)
				r.apply(homePod("web", "web", true, "10.1.0.1"))
				r.away = away
				if reason, got, _ := r.admit("10.1.0.1", account("web"), strict); reason != mesh.ReasonNone || got != account("web") {
					t.Errorf("known: got %q, identity %s", reason, got)
				}
				if reason, got, _ := r.admit("10.1.0.2", account("web"), allowing); reason != mesh.ReasonNone || !got.IsZero() {
					t.Errorf("unknown, policy allow: got %q, identity %s; want no identity", reason, got)
				}
				for attempt := range 2 { // agents try again after a refusal
					if reason, _, took := r.admit("10.1.0.3", account("web"), strict); reason != mesh.ReasonElsewhere || attempt > 0 && took > 0 {
						t.Errorf("unknown, policy strict, attempt %d: got %q after %v, want %q, the second time at once", attempt, reason, took, mesh.ReasonElsewhere)
					}
				}
				now := *allowing
				now.Settings.Policy = mesh.PolicyStrict
				r.apply(state.Resource{Name: state.WorkloadName(now.UID), Workload: &now})
				if reason, _, _ := r.admit("10.1.0.2", account("web"), allowing); reason != mesh.ReasonElsewhere {
					t.Errorf("unknown, strict since the connection began: got %q, want %q", reason, mesh.ReasonElsewhere)
				}
			})
		})
	}
}

func TestPeerClaimsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c peerClaims
		addr := netip.MustParseAddr("10.0.0.1")
		for range claimsMost + 10 {
			c.add(peerClaim{addr, account("web")}, time.Minute)
			addr = addr.Next()
		}
		if len(c.until) != claimsMost || c.has(peerClaim{addr, account("web")}) {
			t.Errorf("%d claims, want %d", len(c.until), claimsMost)
		}
		time.Sleep(time.Minute)
		if !c.add(peerClaim{addr, account("web")}, time.Minute) || c.add(peerClaim{addr, account("web")}, time.Minute) || len(c.until) != 1 {
			t.Errorf("%d claims after the others have expired, want 1", len(c.until))
		}
	})
}

func TestAdmitPeerAtHomeAllocatesNothing(t *testing.T) {
	r := newHomeRig(t)
	r.apply(homePod("web", "web", true, "10.1.0.1"))
	addr, id := netip.MustParseAddr("10.1.0.1"), account("web")
	aside := func(func()) {}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.AdmitPeer(context.Background(), addr, id, strict, aside); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
