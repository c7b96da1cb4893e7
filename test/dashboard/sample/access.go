package sample

import (
	"fmt"
	"net/http"
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/judged"
)

const trustDomain = "cluster.local"

// access answers who may connect, by policies that fit what the edges say: who calls with
// success may, who is denied may not. It is computed as the controller computes it.
func (w *World) access(rw http.ResponseWriter, r *http.Request) {
	ns := r.PathValue("namespace")
	if ns == "forbidden" {
		fail(rw, http.StatusForbidden, "Forbidden", `authz.tap.underlane.io "access" is forbidden: User "jane" cannot get resource "authz"`)
		return
	}
	specs := map[string]*authz.Spec{}
	m := &judged.AccessMesh{
		By:   "the controller, with the policies that it sends to the agents",
		Spec: func(p *mesh.Workload) (*authz.Spec, bool) { return specs[p.UID], true },
	}
	for _, l := range w.workloads {
		if !l.isPods() {
			continue
		}
		p := l.pod()
		m.Workloads = append(m.Workloads, p)
		if l.ns != ns {
			continue
		}
		if spec := w.policies(l); spec != nil && p.Meshed {
			specs[p.UID], p.Authorized = spec, true
		}
		addr := p.Addrs[0]
		m.Services = append(m.Services, &mesh.Service{Namespace: l.ns, Name: l.name, Ports: []mesh.ServicePort{
			{Port: 80, Endpoints: []mesh.Endpoint{{Addr: netip.AddrPortFrom(addr, 8080), WorkloadUID: p.UID}}},
		}})
	}
	m.KnowsEgress = true
	if ns == "shop" {
		m.Egress = []*mesh.EgressNetwork{{Namespace: ns, Name: "outside", Deny: true, Networks: []mesh.EgressRange{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}}}}
		m.Routes = []*mesh.Route{{
			Egress: true, Kind: "TLSRoute", Namespace: ns, Name: "payments", Hostnames: []string{"api.payments.example"},
			Parent: mesh.ServicePortRef{Namespace: ns, Name: "outside", Port: 443},
		}, {Egress: true, Kind: "TCPRoute", Namespace: ns, Name: "mail", Parent: mesh.ServicePortRef{Namespace: ns, Name: "outside", Port: 587}}}
	}
	answer(rw, judged.Access(ns, m))
}

// pod is one of the pods of l.
func (l *workload) pod() *mesh.Workload {
	p := &mesh.Workload{
		UID: fmt.Sprint("uid-", l.id), Namespace: l.ns, Name: podName(l, 0), ServiceAccount: l.name, OwnerKind: l.kind, OwnerName: l.name,
		Addrs: []netip.Addr{l.addr()}, Meshed: l.meshed > 0,
	}
	if p.Meshed {
		p.Identity = mesh.Identity{TrustDomain: trustDomain, Namespace: l.ns, ServiceAccount: l.name}
	}
	return p
}

func (l *workload) addr() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 42, byte(l.id >> 8), byte(l.id)})
}

// policies returns the policies of a workload, nil for none: those of the shop are written out, those
// of the crowd are of four kinds, by namespace.
func (w *World) policies(l *workload) *authz.Spec {
	object := func(kind string) string { return kind + " " + l.ns + "/" + l.name }
	var group authz.Group
	switch {
	case l.ns == "shop" && l.name == "payments":
		group = authz.Group{Name: "policy.underlane.io", Default: authz.ModeAllUnauthenticated, Policies: []authz.Policy{{
			Name: object("AuthorizationPolicy.policy.underlane.io"), Action: authz.ActionAllow,
			Rules: []authz.Rule{{Name: "cart-charges", From: []authz.Source{{ServiceAccounts: []authz.ServiceAccount{{Namespace: l.ns, Name: "cart"}}}}}},
		}}}
	case l.ns == "shop" && l.name == "cart":
		group = authz.Group{Name: "security.istio.io", Default: authz.ModeAllUnauthenticated, Policies: []authz.Policy{{
			Name: "AuthorizationPolicy.security.istio.io shop/cart-admin", Action: authz.ActionDeny,
			Rules: []authz.Rule{{To: []authz.Operation{{Paths: []authz.Match{{Kind: authz.Prefix, Value: "/admin"}}}}}},
		}}}
	case l.ns == "shop" && l.name == "orders-db":
		group = authz.Group{Name: object("Server.policy.linkerd.io"), Ports: []authz.PortRange{authz.Port(8080)}, Policies: []authz.Policy{{
			Name: "AuthorizationPolicy.policy.linkerd.io shop/orders-db-clients", Action: authz.ActionAllow,
			Rules: []authz.Rule{{From: []authz.Source{
				{ServiceAccounts: []authz.ServiceAccount{{Namespace: l.ns, Name: "cart"}, {Namespace: l.ns, Name: "payments"}, {Namespace: l.ns, Name: "backup"}}},
				{Networks: []authz.Network{{CIDR: netip.MustParsePrefix("192.168.7.0/24")}}},
			}}},
		}}}
	case l.ns == "emojivoto":
		group = authz.Group{Name: authz.DefaultGroup, Default: authz.ModeAudit, Unmatched: authz.ModeAudit}
	case l.ns == "shop" || l.ns == "legacy":
		return nil
	default:
		group = w.crowdPolicy(l, object("AuthorizationPolicy.policy.underlane.io"))
	}
	return &authz.Spec{TrustDomain: trustDomain, Groups: []authz.Group{group}}
}

// crowdPolicy lets in who calls.
func (w *World) crowdPolicy(l *workload, name string) authz.Group {
	switch len(l.ns) % 3 {
	case 0:
		return authz.Group{Name: authz.DefaultGroup, Default: authz.ModeAudit, Unmatched: authz.ModeAudit}
	case 1:
		return authz.Group{Name: authz.DefaultGroup, Default: authz.ModeClusterUnauthenticated, Unmatched: authz.ModeClusterUnauthenticated}
	}
	var from authz.Source
	rules := []authz.Rule{}
	for _, e := range w.edges {
		if e.to != l || !e.from.isPods() {
			continue
		}
		if e.from.meshed > 0 {
			from.ServiceAccounts = append(from.ServiceAccounts, authz.ServiceAccount{Namespace: e.from.ns, Name: e.from.name})
			continue
		}
		rules = append(rules, authz.Rule{Name: "outside", From: []authz.Source{{Networks: []authz.Network{{CIDR: netip.PrefixFrom(e.from.addr(), 32)}}}}})
	}
	if len(from.ServiceAccounts) > 0 {
		rules = append(rules, authz.Rule{Name: "callers", From: []authz.Source{from}})
	}
	return authz.Group{Name: "policy.underlane.io", Default: authz.ModeAllUnauthenticated, Policies: []authz.Policy{{
		Name: name, Action: authz.ActionAllow, Rules: rules,
	}}}
}
