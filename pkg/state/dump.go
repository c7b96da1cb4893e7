package state

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/pmap"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Dump is the content of a View for people and JSON. Endpoints name workloads by UID, and
// all lists are sorted.
type Dump struct {
	Node      string                 `json:"node,omitempty"`
	Version   uint64                 `json:"version"`
	Upstream  uint64                 `json:"controllerVersion"`
	Synced    bool                   `json:"synced"`
	Workloads []*mesh.Workload       `json:"workloads"`
	Services  []*mesh.Service        `json:"services"`
	Routes    []*mesh.Route          `json:"routes,omitempty"`
	Authz     map[string]*authz.Spec `json:"authz,omitempty"` // policies of this node's pods, by UID
	Unknown   []netip.Addr           `json:"unknown"`         // answered, and no workload or service has them
	Anchors   int                    `json:"anchors"`         // certificates in the trust bundle
}

// Dump returns the whole content of v.
func (v *View) Dump() Dump {
	d := Dump{
		Version: v.version, Upstream: v.upstream, Synced: v.synced,
		Workloads: []*mesh.Workload{}, Services: []*mesh.Service{}, Unknown: []netip.Addr{},
		Anchors: len(v.Anchors()),
	}
	for _, uid := range sortedKeys(v.workloads) {
		d.Workloads = append(d.Workloads, v.workloads.Get(uid))
	}
	for _, name := range sortedKeys(v.services) {
		d.Services = append(d.Services, v.services.Get(name))
		d.Routes = append(d.Routes, v.Routes(v.services.Get(name))...)
	}
	for uid, rules := range v.authz.All() {
		if d.Authz == nil {
			d.Authz = map[string]*authz.Spec{}
		}
		d.Authz[uid] = rules.Spec()
	}
	external := map[netip.Addr]bool{}
	for at := range v.external.All() {
		external[at.Addr()] = true
	}
	for addr := range v.answered.All() {
		if v.byAddr.Get(addr) == nil && v.byVIP.Get(addr) == nil && !external[addr] {
			d.Unknown = append(d.Unknown, addr)
		}
	}
	slices.SortFunc(d.Unknown, netip.Addr.Compare)
	return d
}

func sortedKeys[V any](m pmap.Map[string, V]) []string {
	keys := make([]string, 0, m.Len())
	for k := range m.All() {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
