package linkerdpolicy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// This file has a second evaluator, written from Linkerd's documentation (Authorization
// Policy, 2.19) and its proxy's tests, and not from the translation or the engine. It takes
// the objects as they are written.

type refMatch struct {
	Exact  bool
	Path   string
	Method string
}

type refRoute struct {
	Group, Kind, Name string
	Parent            string // name of a Server
	Matches           []refMatch
}

type refPolicy struct {
	Group, Kind, Target string
	Mesh, Net           string // names of authentications; "": none is required
	Account             string // a ServiceAccount that is required instead of Mesh
}

type refOlder struct {
	Server, Tier string // name of a Server, or a label of it
	Networks     []string
	Unauth, TLS  bool
	Accounts     []string
	Identities   []string
}

type refWorld struct {
	Access, Protocol, Tier string
	Routes                 []refRoute
	Policies               []refPolicy
	Older                  []refOlder
	Mesh                   map[string][]string // identities, "sa:x" for a reference to an account, "ns:x"
	Nets                   map[string][]string // "CIDR" or "CIDR!EXCEPT"
}

const refCluster = "10.0.0.0/8"

func inNet(addr netip.Addr, list []string) bool {
	return slices.ContainsFunc(list, func(n string) bool {
		cidr, except, _ := strings.Cut(n, "!")
		return netip.MustParsePrefix(cidr).Contains(addr) && (except == "" || !netip.MustParsePrefix(except).Contains(addr))
	})
}

// isIdentity compares a client, "NAMESPACE/ACCOUNT", with one identity.
func isIdentity(client, want string) bool {
	ns, sa, ok := strings.Cut(client, "/")
	if !ok {
		return false
	}
	name := sa + "." + ns + ".serviceaccount.identity.linkerd.td" // Linkerd's name of the client
	switch {
	case strings.HasPrefix(want, "sa:"):
		return ns == "a" && sa == want[3:]
	case strings.HasPrefix(want, "ns:"):
		return ns == want[3:]
	case strings.HasPrefix(want, "*"):
		return strings.HasSuffix(name, want[1:])
	}
	return name == want
}

// verdict is what a client gets for a request, "opaque" for bytes that are none: "200", "403"
// or "404".
func (w *refWorld) verdict(client string, addr netip.Addr, method, path string) string {
	in := ""
	attached := false
	for _, r := range w.Routes {
		attached = attached || w.attached(&r)
	}
	if attached && method != "opaque" {
		best := [4]int{-1}
		for i := range w.Routes {
			r := &w.Routes[i]
			if !w.attached(r) {
				continue
			}
			for _, m := range r.Matches {
				prefix := strings.TrimSuffix(m.Path, "/")
				fits := m.Method == "" || m.Method == method
				if m.Exact {
					fits = fits && path == m.Path
				} else {
					fits = fits && (path == prefix || strings.HasPrefix(path, prefix+"/"))
				}
				if !fits {
					continue
				}
				// Gateway API: exact before prefix, the longer prefix, the method, and
				// then the first by name.
				rank := [4]int{0, len(prefix), len(m.Method[:min(1, len(m.Method))]), -i}
				if m.Exact {
					rank[0] = 1
				}
				if slices.Compare(rank[:], best[:]) > 0 {
					best, in = rank, r.Kind+"."+r.Group+"/"+r.Name
				}
			}
		}
		if in == "" {
			return "404"
		}
	}
	allowed := false
	switch w.Access {
	case "all-unauthenticated", "audit":
		allowed = true
	case "all-authenticated":
		allowed = client != ""
	case "cluster-unauthenticated":
		allowed = inNet(addr, []string{refCluster})
	case "cluster-authenticated":
		allowed = client != "" && inNet(addr, []string{refCluster})
	}
	for _, p := range w.Policies {
		about := p.Kind == "Server" && p.Target == "web" || p.Kind == "Namespace" && p.Target == "a" ||
			in != "" && p.Kind+"."+p.Group+"/"+p.Target == in
		ok := true
		if p.Account != "" {
			ok = isIdentity(client, "sa:"+p.Account)
		}
		if p.Mesh != "" {
			ok = slices.ContainsFunc(w.Mesh[p.Mesh], func(id string) bool { return isIdentity(client, id) })
		}
		if p.Net != "" {
			ok = ok && inNet(addr, w.Nets[p.Net])
		}
		allowed = allowed || about && ok
	}
	for _, o := range w.Older {
		about := o.Server == "web" || o.Server == "" && o.Tier == w.Tier
		nets := o.Networks
		if len(nets) == 0 {
			nets = []string{refCluster}
		}
		who := o.Unauth || o.TLS && client != "" ||
			slices.ContainsFunc(o.Accounts, func(sa string) bool { return isIdentity(client, "sa:"+sa) }) ||
			slices.ContainsFunc(o.Identities, func(id string) bool { return isIdentity(client, id) })
		allowed = allowed || about && who && inNet(addr, nets)
	}
	if !allowed || attached && method == "opaque" {
		return "403"
	}
	return "200"
}

func (w *refWorld) attached(r *refRoute) bool {
	return r.Parent == "web" && (r.Kind == "GRPCRoute") == (w.Protocol == "gRPC")
}

type jsonObject = map[string]any

func (w *refWorld) objects(t testing.TB) *Objects {
	o := &Objects{Cluster: []netip.Prefix{netip.MustParsePrefix(refCluster)}}
	add := func(apiVersion, kind, name string, labels jsonObject, spec jsonObject) {
		text, err := json.Marshal(jsonObject{"apiVersion": apiVersion, "kind": kind, "metadata": jsonObject{"namespace": "a", "name": name, "labels": labels}, "spec": spec})
		if err == nil {
			err = o.Add(text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const own = Group + "/v1"
	add(own, "Server", "web", jsonObject{"tier": w.Tier}, jsonObject{"port": 80, "proxyProtocol": w.Protocol, "accessPolicy": w.Access})
	for _, r := range w.Routes {
		var matches []jsonObject
		for _, m := range r.Matches {
			if r.Kind == "GRPCRoute" {
				service, method, _ := strings.Cut(m.Path[1:], "/")
				call := jsonObject{"service": service}
				if m.Exact {
					call["method"] = method
				}
				matches = append(matches, jsonObject{"method": call})
				continue
			}
			match := jsonObject{"path": jsonObject{"type": map[bool]string{true: "Exact", false: "PathPrefix"}[m.Exact], "value": m.Path}}
			if m.Method != "" {
				match["method"] = m.Method
			}
			matches = append(matches, match)
		}
		add(r.Group+"/v1", r.Kind, r.Name, nil, jsonObject{
			"parentRefs": []jsonObject{{"group": Group, "kind": "Server", "name": r.Parent}}, "rules": []jsonObject{{"matches": matches}},
		})
	}
	for i, p := range w.Policies {
		refs := []jsonObject{}
		if p.Mesh != "" {
			refs = append(refs, jsonObject{"group": Group, "kind": "MeshTLSAuthentication", "name": p.Mesh})
		}
		if p.Account != "" {
			refs = append(refs, jsonObject{"kind": "ServiceAccount", "name": p.Account})
		}
		if p.Net != "" {
			refs = append(refs, jsonObject{"group": Group, "kind": "NetworkAuthentication", "name": p.Net})
		}
		add(own, "AuthorizationPolicy", fmt.Sprint("p", i), nil, jsonObject{
			"targetRef": jsonObject{"group": p.Group, "kind": p.Kind, "name": p.Target}, "requiredAuthenticationRefs": refs,
		})
	}
	nets := func(list []string) (out []jsonObject) {
		for _, n := range list {
			cidr, except, ok := strings.Cut(n, "!")
			net := jsonObject{"cidr": cidr}
			if ok {
				net["except"] = []string{except}
			}
			out = append(out, net)
		}
		return out
	}
	for i, a := range w.Older {
		server, client := jsonObject{"name": a.Server}, jsonObject{}
		if a.Server == "" {
			server = jsonObject{"selector": jsonObject{"matchLabels": jsonObject{"tier": a.Tier}}}
		}
		if len(a.Networks) > 0 {
			client["networks"] = nets(a.Networks)
		}
		if a.Unauth {
			client["unauthenticated"] = true
		} else {
			var accounts []jsonObject
			for _, sa := range a.Accounts {
				accounts = append(accounts, jsonObject{"name": sa})
			}
			client["meshTLS"] = jsonObject{"unauthenticatedTLS": a.TLS, "identities": a.Identities, "serviceAccounts": accounts}
		}
		add(own, "ServerAuthorization", fmt.Sprint("o", i), nil, jsonObject{"server": server, "client": client})
	}
	for name, ids := range w.Mesh {
		spec := jsonObject{}
		var refs []jsonObject
		var identities []string
		for _, id := range ids {
			switch kind, of, _ := strings.Cut(id, ":"); kind {
			case "sa":
				refs = append(refs, jsonObject{"kind": "ServiceAccount", "name": of})
			case "ns":
				refs = append(refs, jsonObject{"kind": "Namespace", "name": of})
			default:
				identities = append(identities, id)
			}
		}
		spec["identities"], spec["identityRefs"] = identities, refs
		add(own, "MeshTLSAuthentication", name, nil, spec)
	}
	for name, list := range w.Nets {
		add(own, "NetworkAuthentication", name, nil, jsonObject{"networks": nets(list)})
	}
	return o
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func several[T any](r *rand.Rand, least, most int, make func() T) (out []T) {
	for range least + r.IntN(most-least+1) {
		out = append(out, make())
	}
	return out
}

func randomWorld(r *rand.Rand) *refWorld {
	const gateway = "gateway.networking.k8s.io"
	w := &refWorld{
		Access:   pick(r, "", "deny", "deny", "all-unauthenticated", "all-authenticated", "cluster-unauthenticated", "cluster-authenticated", "audit"),
		Protocol: pick(r, "", "unknown", "HTTP/1", "HTTP/2", "gRPC"), Tier: pick(r, "edge", "back"),
		Mesh: map[string][]string{}, Nets: map[string][]string{},
	}
	identity := func() string {
		return pick(r, "*", "sa:x", "sa:y", "ns:a", "ns:b", "x.a.serviceaccount.identity.linkerd.td", "y.b.serviceaccount.identity.linkerd.td",
			"*.a.serviceaccount.identity.linkerd.td", "*.serviceaccount.identity.linkerd.td", "x.a.serviceaccount.identity.linkerd.other")
	}
	network := func() string { return pick(r, "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16!10.1.1.0/24", "192.0.2.0/24") }
	for i := range r.IntN(3) {
		w.Mesh[fmt.Sprint("m", i)] = several(r, 1, 2, identity)
		w.Nets[fmt.Sprint("n", i)] = several(r, 1, 2, network)
	}
	for i := range r.IntN(4) {
		route := refRoute{Group: gateway, Kind: "HTTPRoute", Name: fmt.Sprint("r", i), Parent: pick(r, "web", "web", "db")}
		if w.Protocol == "gRPC" && r.IntN(4) > 0 {
			route.Kind = "GRPCRoute"
		} else if r.IntN(2) == 0 {
			route.Group = Group
		}
		route.Matches = several(r, 1, 2, func() refMatch {
			if route.Kind == "GRPCRoute" {
				if r.IntN(2) == 0 {
					return refMatch{Exact: true, Path: pick(r, "/a/b", "/b/c")}
				}
				return refMatch{Path: pick(r, "/a", "/b")}
			}
			return refMatch{Exact: r.IntN(2) == 0, Path: pick(r, "/", "/a", "/a/b", "/b"), Method: pick(r, "", "", "GET", "POST")}
		})
		w.Routes = append(w.Routes, route)
	}
	w.Policies = several(r, 0, 3, func() refPolicy {
		p := refPolicy{Group: Group, Kind: "Server", Target: pick(r, "web", "web", "db")}
		switch r.IntN(4) {
		case 0:
			p = refPolicy{Kind: "Namespace", Target: pick(r, "a", "b")}
		case 1, 2:
			p = refPolicy{Group: pick(r, gateway, Group), Kind: "HTTPRoute", Target: pick(r, "r0", "r1", "r2")}
			if w.Protocol == "gRPC" {
				p.Group, p.Kind = gateway, "GRPCRoute"
			}
		}
		switch r.IntN(3) {
		case 0:
			p.Mesh = pick(r, "m0", "m1", "m2") // it may not exist
		case 1:
			p.Account = pick(r, "x", "y")
		}
		p.Net = pick(r, "", "", "n0", "n1")
		return p
	})
	w.Older = several(r, 0, 2, func() refOlder {
		o := refOlder{Server: pick(r, "web", "db", ""), Networks: several(r, 0, 2, network), Unauth: r.IntN(4) == 0, TLS: r.IntN(4) == 0}
		if o.Server == "" {
			o.Tier = pick(r, "edge", "back")
		}
		if !o.Unauth {
			o.Accounts = several(r, 0, 2, func() string { return pick(r, "x", "y") })
			o.Identities = several(r, 0, 2, func() string {
				return pick(r, "*", "x.a.serviceaccount.identity.linkerd.td", "*.b.serviceaccount.identity.linkerd.td")
			})
		}
		return o
	})
	return w
}

// compare judges all clients and requests by both evaluators.
func (w *refWorld) compare(t testing.TB) {
	o := w.objects(t)
	group, _, _ := o.Group(&o.Servers[0], "td")
	rules, problems := authz.CompileWorkload(&authz.Spec{TrustDomain: "td", Cluster: o.Cluster, Groups: []authz.Group{group}})
	if len(problems) > 0 {
		t.Fatalf("%v\n%+v", problems, w)
	}
	for _, client := range []string{"", "a/x", "a/y", "b/x", "b/y"} {
		for _, addr := range []string{"10.1.0.1", "10.1.1.1", "192.0.2.1", "198.51.100.1"} {
			c := &authz.Connection{Client: netip.MustParseAddr(addr), Port: 80}
			if ns, sa, ok := strings.Cut(client, "/"); ok {
				c.Peer = authz.ParsePeer("spiffe://td/ns/" + ns + "/sa/" + sa)
			}
			for _, method := range []string{"GET", "POST", "opaque"} {
				for _, path := range []string{"/", "/a", "/a/b", "/ab", "/b/c"} {
					var asked *authz.Request
					if method != "opaque" {
						asked = &authz.Request{Method: method, Path: path}
					}
					got := "403"
					switch d := rules.DecideRequest(c, asked); {
					case d.Verdict == authz.Allow:
						got = "200"
					case d.Why == authz.WhyUnrouted:
						got = "404"
					}
					if want := w.verdict(client, c.Client, method, path); got != want {
						t.Fatalf("%q at %s, %s %s: got %s, want %s, of\n%+v", client, addr, method, path, got, want, w)
					}
				}
			}
		}
	}
}

func TestOracle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		randomWorld(r).compare(t)
	}
}

func FuzzOracle(f *testing.F) {
	f.Add(uint64(1), uint64(1))
	f.Fuzz(func(t *testing.T, a, b uint64) { randomWorld(rand.New(rand.NewPCG(a, b))).compare(t) })
}
