package judged

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// accessServer is a port of a workload.
type accessServer struct {
	tapv1alpha1.AuthzServer
	pod   *mesh.Workload
	rules *authz.Workload // nil: no policy holds, for the reason open
	open  string
}

// servers returns the ports of the workloads of a namespace by name, and the number of
// workloads whose policies are not known.
func (m *AccessMesh) servers(namespace string) (out []accessServer, unknown int) {
	type owner struct{ kind, name string }
	pods := map[owner][]*mesh.Workload{}
	for _, w := range m.Workloads {
		if w.Namespace == namespace && w.OwnerKind != mesh.KindNode && !w.Terminating {
			o := owner{w.OwnerKind, w.OwnerName}
			pods[o] = append(pods[o], w)
		}
	}
	ports := m.ports(namespace)
	keys := slices.SortedFunc(maps.Keys(pods), func(a, b owner) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.kind, b.kind))
	})
	for _, o := range keys {
		s, known := m.server(pods[o])
		if !known {
			unknown++
			continue
		}
		s.Namespace, s.Kind, s.Name = namespace, o.kind, o.name
		named := map[uint16][]string{}
		for _, w := range pods[o] {
			for port, services := range ports[w.UID] {
				for _, name := range services {
					if !slices.Contains(named[port], name) {
						named[port] = append(named[port], name)
					}
				}
			}
		}
		for _, g := range groupsOf(s.rules.Spec()) {
			for _, r := range g.Ports {
				if _, ok := named[r.First]; r.First == r.Last && !ok {
					named[r.First] = nil
				}
			}
		}
		if len(named) == 0 {
			named[0] = nil
		}
		list := slices.Sorted(maps.Keys(named))
		for _, port := range list[:min(len(list), maxAccessPorts)] {
			one := s
			one.Port, one.Services = port, slices.Sorted(slices.Values(named[port]))
			one.Mode = ""
			if one.open == "" {
				one.Mode = modeOf(s.pod, s.rules.Spec())
			}
			if one.open == "" && mesh.InRanges(s.pod.Settings.SkipInboundPorts, port) {
				one.Mode, one.rules, one.Objects = "", nil, nil
				one.open = "allowed: the port is in the server's skip-inbound-ports, so that no policy holds for it"
			}
			out = append(out, one)
		}
	}
	return out, unknown
}

// server returns what decides about the pods of a workload.
func (m *AccessMesh) server(pods []*mesh.Workload) (s accessServer, known bool) {
	var first *authz.Spec
	for _, w := range pods {
		if !w.Meshed {
			continue
		}
		spec, ok := m.Spec(w)
		if !ok {
			continue
		}
		if spec == nil {
			spec = new(authz.Spec)
		}
		if s.pod == nil {
			s.pod, first = w, spec
			s.rules, _ = authz.CompileWorkload(spec)
			s.Objects = s.rules.Objects()
			continue
		}
		s.Uneven = s.Uneven || s.pod.Settings.Policy != w.Settings.Policy || !reflect.DeepEqual(first, spec)
	}
	if s.pod != nil {
		return s, true
	}
	s.open = "allowed: the server is not in the mesh, where no policy of the mesh holds"
	return s, !slices.ContainsFunc(pods, func(w *mesh.Workload) bool { return w.Meshed })
}

// modeOf returns what decides about a port where no policy does.
func modeOf(w *mesh.Workload, spec *authz.Spec) string {
	for _, g := range groupsOf(spec) {
		if g.Name == authz.DefaultGroup {
			return g.Default.String()
		}
	}
	return w.Settings.Policy.String()
}

// groupsOf returns the groups of a Spec, which may be nil.
func groupsOf(spec *authz.Spec) []authz.Group {
	if spec == nil {
		return nil
	}
	return spec.Groups
}

// ports returns the ports of pods, by UID, that Services of a namespace lead to, and these.
func (m *AccessMesh) ports(namespace string) map[string]map[uint16][]string {
	out := map[string]map[uint16][]string{}
	for _, s := range m.Services {
		for _, p := range s.Ports {
			for _, e := range p.Endpoints {
				if e.WorkloadUID == "" || e.Workload != nil && e.Workload.Namespace != namespace {
					continue
				}
				of := out[e.WorkloadUID]
				if of == nil {
					of = map[uint16][]string{}
					out[e.WorkloadUID] = of
				}
				if port := e.Addr.Port(); !slices.Contains(of[port], s.Name) {
					of[port] = append(of[port], s.Name)
				}
			}
		}
	}
	return out
}
