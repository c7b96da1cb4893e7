package state

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
)

// Dump is a View for people and JSON: endpoints name workloads by UID, and
// everything is sorted.
type Dump struct {
	Node      string           `json:"node,omitempty"`
	Version   uint64           `json:"version"`
	Upstream  uint64           `json:"controllerVersion"`
	Synced    bool             `json:"synced"`
	Workloads []*mesh.Workload `json:"workloads"`
	Services  []Service        `json:"services"`
	Routes    []*mesh.Route    `json:"routes,omitempty"`
	Unknown   []netip.Addr     `json:"unknown"` // asked for, and nobody in the mesh has them
	Anchors   int              `json:"anchors"` // certificates in the trust bundle
}

// Dump returns the whole content of v.
func (v *View) Dump() Dump {
	d := Dump{
		Version: v.version, Upstream: v.upstream, Synced: v.synced,
		Workloads: []*mesh.Workload{}, Services: []Service{}, Unknown: []netip.Addr{},
		Anchors: len(v.Anchors()),
	}
	for _, uid := range sortedKeys(v.workloads) {
		d.Workloads = append(d.Workloads, v.workloads[uid])
	}
	for _, name := range sortedKeys(v.services) {
		d.Services = append(d.Services, Unlink(v.services[name]))
		d.Routes = append(d.Routes, v.Routes(v.services[name])...)
	}
	for addr := range v.answered {
		if v.byAddr[addr] == nil && v.byVIP[addr] == nil {
			d.Unknown = append(d.Unknown, addr)
		}
	}
	slices.SortFunc(d.Unknown, netip.Addr.Compare)
	return d
}

// Unlink returns the form of s in which it travels: endpoints name workloads.
func Unlink(s *mesh.Service) Service {
	out := Service{
		Name: s.Name, Namespace: s.Namespace, VIPs: s.VIPs,
		SessionAffinity: s.SessionAffinity, NodeLocal: s.NodeLocal, FailureAccrual: s.FailureAccrual, RetryBudget: s.RetryBudget,
	}
	for _, p := range s.Ports {
		port := ServicePort{Name: p.Name, Port: p.Port, AppProtocol: p.AppProtocol}
		for _, e := range p.Endpoints {
			uid := ""
			if e.Workload != nil {
				uid = e.Workload.UID
			}
			port.Endpoints = append(port.Endpoints, Endpoint{
				Addr: e.Addr, WorkloadUID: uid, Ready: e.Ready, ForZones: e.ForZones, ForNodes: e.ForNodes,
			})
		}
		out.Ports = append(out.Ports, port)
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
