package judged

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// accessClient is a client, as a server's agent sees it.
type accessClient struct {
	tapv1alpha1.AuthzClient
	id   mesh.Identity
	peer authz.Peer
	addr netip.Addr
}

// clients returns the workloads, what the servers' policies name beside them, and one without
// anything. left is the number of workloads that are not among them.
func (m *AccessMesh) clients(servers []accessServer) (out []accessClient, left int) {
	workloads := map[tapv1alpha1.AuthzClient]accessClient{}
	type owner struct{ namespace, kind, name string }
	meshed := map[owner]bool{}
	for _, w := range m.Workloads {
		if w.Meshed {
			meshed[owner{w.Namespace, w.OwnerKind, w.OwnerName}] = true
		}
	}
	for _, w := range m.Workloads {
		// The pods of a workload that are not in the mesh yet will be.
		if w.OwnerKind == mesh.KindNode || w.Terminating || !w.Meshed && meshed[owner{w.Namespace, w.OwnerKind, w.OwnerName}] {
			continue
		}
		c := accessClient{AuthzClient: tapv1alpha1.AuthzClient{Kind: w.OwnerKind, Namespace: w.Namespace, Name: w.OwnerName}}
		if w.Meshed {
			c.id = w.Identity
			c.Identity = w.Identity.String()
			c.peer = authz.PeerOf(w.Identity)
		}
		if len(w.Addrs) > 0 {
			c.addr = w.Addrs[0]
		}
		if _, ok := workloads[c.AuthzClient]; !ok {
			workloads[c.AuthzClient] = c
		}
	}
	for _, c := range workloads {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b accessClient) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Identity, b.Identity))
	})
	if left = len(out) - maxAccessClients; left > 0 {
		out = out[:maxAccessClients]
	}
	has := map[string]bool{}
	for i := range out {
		has[out[i].Identity] = true
	}
	identities, networks := map[string]bool{}, map[netip.Prefix]authz.Network{}
	for i := range servers {
		namedBy(servers[i].rules.Spec(), identities, networks)
	}
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(identities)), func(uri string) bool { return has[uri] })
	for _, uri := range others[:min(len(others), maxAccessNamed)] {
		c := accessClient{AuthzClient: tapv1alpha1.AuthzClient{Kind: tapv1alpha1.ClientIdentity, Identity: uri}, peer: authz.ParsePeer(uri)}
		c.id, _ = mesh.ParseIdentity(uri)
		out = append(out, c)
	}
	prefixes := slices.SortedFunc(maps.Keys(networks), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	for _, p := range prefixes[:min(len(prefixes), maxAccessNamed)] {
		out = append(out, accessClient{AuthzClient: tapv1alpha1.AuthzClient{Kind: tapv1alpha1.ClientNetwork, Name: p.String()}, addr: sample(networks[p])})
	}
	return append(out, accessClient{AuthzClient: tapv1alpha1.AuthzClient{Kind: tapv1alpha1.ClientStranger}}), max(left, 0)
}

// sample returns an address of a network, which no exception has if that is found quickly.
func sample(n authz.Network) netip.Addr {
	addr := n.CIDR.Addr()
	for range 2 * len(n.Except) {
		for _, e := range n.Except {
			if e.Contains(addr) {
				addr = after(e)
			}
		}
	}
	if !n.CIDR.Contains(addr) {
		return n.CIDR.Addr()
	}
	return addr
}

// after returns the first address behind a prefix, or the zero one.
func after(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last.Next()
}

// namedBy collects the identities and networks that policies name.
func namedBy(spec *authz.Spec, identities map[string]bool, networks map[netip.Prefix]authz.Network) {
	for _, g := range groupsOf(spec) {
		for i := range g.Policies {
			for j := range g.Policies[i].Rules {
				r := &g.Policies[i].Rules[j]
				sources := slices.Clone(r.From)
				for k := range r.When {
					if r.When[k].Kind == authz.ConditionSource {
						sources = append(sources, r.When[k].Source)
					}
				}
				for k := range sources {
					s := &sources[k]
					for _, match := range s.Principals {
						if match.Kind == authz.Exact {
							identities[match.Value] = true
						}
					}
					for _, a := range s.ServiceAccounts {
						if a.Name != "*" {
							identities[mesh.Identity{TrustDomain: spec.TrustDomain, Namespace: a.Namespace, ServiceAccount: a.Name}.String()] = true
						}
					}
					for _, n := range s.Networks {
						if n.CIDR.IsValid() {
							networks[n.CIDR.Masked()] = n
						}
					}
				}
			}
		}
	}
}
