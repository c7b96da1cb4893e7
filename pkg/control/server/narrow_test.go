package server

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// world is a small mesh that changes at random.
type world struct {
	*rand.Rand
	pods     map[string]*mesh.Workload
	services map[string]*mesh.Service
	routes   map[string]*mesh.Route
	egress   map[string]*mesh.EgressNetwork
	authz    map[string]*authz.Spec
	nodes    []netip.Addr
}

func (w *world) one(of ...string) string { return of[w.IntN(len(of))] }

func (w *world) addr() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(w.IntN(2)), byte(1 + w.IntN(4))})
}

func (w *world) vip() netip.Addr { return netip.AddrFrom4([4]byte{10, 96, 0, byte(1 + w.IntN(4))}) }

func (w *world) pod() (string, *mesh.Workload) {
	uid := w.one("1", "2", "3", "4", "5")
	p := &mesh.Workload{
		UID: uid, Name: uid, Namespace: w.one("a", "b"), Node: w.one("n1", "n2"), Meshed: w.IntN(3) > 0, Ready: w.IntN(2) == 0,
		Addrs: []netip.Addr{w.addr()}, HostNetwork: w.IntN(6) == 0,
	}
	p.Settings.Ingress = w.IntN(4) == 0
	if w.IntN(3) == 0 {
		p.Authorized = true
		w.authz[uid] = &authz.Spec{TrustDomain: fmt.Sprint(w.IntN(2)), Groups: []authz.Group{{Name: "g"}}}
	} else {
		delete(w.authz, uid)
	}
	return uid, p
}

func (w *world) service() (string, *mesh.Service) {
	name := w.one("s", "t", "u")
	s := &mesh.Service{Name: name, Namespace: "a", VIPs: []netip.Addr{w.vip()}, Ports: []mesh.ServicePort{{Port: 80}}}
	p := &s.Ports[0]
	if w.IntN(3) == 0 {
		p.NodePort = 30080
	}
	if w.IntN(3) == 0 {
		p.External = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(w.IntN(2))})}
	}
	for _, uid := range []string{"1", "2", "3", "4", "5"} {
		if pod := w.pods[uid]; pod != nil && w.IntN(2) == 0 {
			p.Endpoints = append(p.Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(pod.Addrs[0], 80), WorkloadUID: uid, Workload: pod, Ready: true})
		}
	}
	return name, s
}

func (w *world) route() (string, *mesh.Route) {
	name := w.one("r", "q")
	r := &mesh.Route{
		Kind: "HTTPRoute", Name: name, Namespace: w.one("a", "b"), Egress: w.IntN(3) == 0,
		Parent: mesh.ServicePortRef{Namespace: "a", Name: w.one("s", "t", "u")},
		Rules:  []mesh.RouteRule{{Backends: []mesh.RouteBackend{{Service: mesh.ServicePortRef{Namespace: "a", Name: w.one("s", "t", "u"), Port: 80}, Weight: uint32(w.IntN(3))}}}},
	}
	return name, r
}

// change changes one value. A Service has workloads that are there.
func (w *world) change(c *Changes) {
	gone := w.IntN(4) == 0
	switch w.IntN(12) {
	case 0, 1:
		uid, p := w.pod()
		if gone {
			p = nil
			delete(w.authz, uid)
		}
		note(&c.Workloads, w.pods, uid, p)
		for name, s := range w.services { // its endpoints lead to it, or to nobody
			for i := range s.Ports[0].Endpoints {
				if s.Ports[0].Endpoints[i].WorkloadUID != uid {
					continue
				}
				now := *s
				now.Ports = slices.Clone(s.Ports)
				if p == nil || w.IntN(2) == 0 {
					now.Ports[0].Endpoints = slices.Delete(slices.Clone(s.Ports[0].Endpoints), i, i+1)
				} else {
					now.Ports[0].Endpoints = slices.Clone(s.Ports[0].Endpoints)
					now.Ports[0].Endpoints[i].Workload, now.Ports[0].Endpoints[i].Addr = p, netip.AddrPortFrom(p.Addrs[0], 80)
				}
				note(&c.Services, w.services, name, &now)
				break
			}
		}
	case 2:
		name, r := w.route()
		if gone {
			r = nil
		}
		note(&c.Routes, w.routes, name, r)
	case 3:
		name := w.one("s", "e")
		n := &mesh.EgressNetwork{Namespace: "a", Name: name, Deny: w.IntN(2) == 0, Global: w.IntN(2) == 0}
		if gone {
			n = nil
		}
		note(&c.Egress, w.egress, name, n)
	default:
		name, s := w.service()
		if gone {
			s = nil
		}
		note(&c.Services, w.services, name, s)
	}
	if w.IntN(20) == 0 {
		w.nodes = []netip.Addr{netip.AddrFrom4([4]byte{172, 16, 0, byte(w.IntN(2))})}
		c.Nodes, c.NodesSet = w.nodes, true
	}
}

// note replaces a value and adds it to what has changed, once.
func note[T any](to *[]mesh.Changed[T], all map[string]*T, key string, now *T) {
	old := all[key]
	if now == nil {
		delete(all, key)
	} else {
		all[key] = now
	}
	for i := range *to {
		if c := &(*to)[i]; old != nil && c.After == old {
			c.After = now
			return
		}
	}
	if old != nil || now != nil {
		*to = append(*to, mesh.Changed[T]{Before: old, After: now})
	}
}

func (w *world) content() Content {
	return Content{
		Workloads: sorted(w.pods), Services: sorted(w.services), Routes: sorted(w.routes), Egress: sorted(w.egress),
		Authz: w.authz, Nodes: w.nodes, Anchors: [][]byte{{1}},
	}
}

func sorted[T any](m map[string]*T) (out []*T) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// TestNarrowIsDiff: whatever changes, agents have what they would have if each publication woke
// all of them, and each delta were the difference to the whole state.
func TestNarrowIsDiff(t *testing.T) {
	narrow, wide := uint64(0), uint64(0)
	for seed := range uint64(40) {
		w := &world{
			Rand: rand.New(rand.NewPCG(seed, 11)), pods: map[string]*mesh.Workload{}, services: map[string]*mesh.Service{},
			routes: map[string]*mesh.Route{}, egress: map[string]*mesh.EgressNetwork{}, authz: map[string]*authz.Spec{},
		}
		k := NewKeeper()
		k.Apply(Changes{Anchors: [][]byte{{1}}})
		srv := New(Options{})
		var streams []*syncState
		var followers []*follower
		for i := range 4 {
			kinds := []string{control.KindAuthz, control.KindRanges, control.KindRoute, control.KindEgress}
			switch i {
			case 2:
				kinds = kinds[:3]
			case 3:
				kinds = kinds[w.IntN(4):]
			}
			s, err := newSyncState(srv.streams.numbers, []string{"n1", "n8", "n9", "n2"}[i], &pb.SyncRequest{Agent: &pb.Agent{Kinds: kinds}})
			if err != nil {
				t.Fatal(err)
			}
			streams, followers = append(streams, s), append(followers, srv.streams.join(s.node))
		}
		for step := range 60 {
			var c Changes
			before := maps.Clone(w.authz)
			for range 1 + w.IntN(3) {
				w.change(&c)
			}
			c.Authz = map[string]*authz.Spec{}
			for uid := range before {
				if w.authz[uid] == nil {
					c.Authz[uid] = nil
				}
			}
			for uid, spec := range w.authz {
				if before[uid] != spec {
					c.Authz[uid] = spec
				}
			}
			snap := k.Apply(c)
			srv.Publish(snap)
			whole := NewSnapshot(snap.version, w.content(), nil)
			if !snap.Equal(whole) {
				t.Fatalf("seed %d, step %d: %v, want %v", seed, step, slices.Sorted(keys(snap)), slices.Sorted(keys(whole)))
			}
			for i, s := range streams {
				if w.IntN(3) == 0 {
					continue // it is slow
				}
				for w.IntN(8) == 0 {
					req := &pb.SyncRequest{Subscribe: codec.EncodeAddrs([]netip.Addr{[]netip.Addr{w.addr(), w.vip(), {}}[w.IntN(2)]})}
					if w.IntN(3) == 0 {
						req.Subscribe, req.Unsubscribe = nil, req.Subscribe
					}
					if w.IntN(4) == 0 {
						req.Subscribe = codec.EncodeAddrs([]netip.Addr{netip.AddrFrom4([4]byte{172, 16, 0, 1}), netip.AddrFrom4([4]byte{192, 0, 2, 1})})
					}
					if _, err := s.handle(req); err != nil {
						t.Fatal(err)
					}
				}
				looks := s.looks
				for srv.next(s, followers[i]) != nil {
					s.pending = false
				}
				if s.looks == looks {
					narrow++
				} else {
					wide++
				}
				if resources, removed := s.diff(whole); len(resources)+len(removed) > 0 {
					t.Fatalf("seed %d, step %d, stream %d: it lacks %v, and has %v too much", seed, step, i, resources, removed)
				}
			}
		}
	}
	if narrow < wide/8 {
		t.Errorf("%d narrow deltas, %d others: the test looks at the wrong thing", narrow, wide)
	}
	t.Log(narrow, wide)
}

func keys(s *Snapshot) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name, r := range s.byName.All() {
			if !yield(fmt.Sprint(name, r.version)) {
				return
			}
		}
	}
}
