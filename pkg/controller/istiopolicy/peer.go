package istiopolicy

import (
	"maps"
	"slices"
	"strconv"

	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

type peerSpec struct {
	Selector      *selector           `json:"selector"`
	MTLS          *mtlsSpec           `json:"mtls"`
	PortLevelMTLS map[string]mtlsSpec `json:"portLevelMtls"`
}

type mtlsSpec struct {
	Mode string `json:"mode"`
}

// mode is what a PeerAuthentication wants of connections.
type mode uint8

const (
	unset      mode = iota // as the wider PeerAuthentication says
	permissive             // with or without an identity
	strict                 // with one
)

var modes = map[string]mode{"": unset, "UNSET": unset, "PERMISSIVE": permissive, "DISABLE": permissive, "STRICT": strict}

// peer is a PeerAuthentication, translated.
type peer struct {
	mode     mode
	ports    map[uint16]mode // those that are not unset
	selected bool            // it has a selector
	ignored  bool
}

func (o *Object) readPeer(object []byte, root string) {
	spec, unknown := policyobject.Read[peerSpec](object)
	p := &peer{ports: map[uint16]mode{}}
	o.peer = p
	o.readScope(spec.Selector, nil, nil)
	o.widen(&unknown)
	p.selected = len(o.scope.labels) > 0
	closed := false
	doubt := func(field, format string, args ...any) {
		o.problem(field, format, args...)
		closed = true
	}
	for _, field := range unknown.All() {
		doubt(field, "is not known: the mode is STRICT")
	}
	read := func(field string, m mtlsSpec) mode {
		if m.Mode == "DISABLE" {
			o.problem(field, "mode DISABLE is PERMISSIVE: this mesh always offers mTLS")
		}
		out, ok := modes[m.Mode]
		if !ok {
			doubt(field, "mode %q is not known: it is STRICT", m.Mode)
		}
		return out
	}
	if spec.MTLS != nil {
		p.mode = read("spec.mtls", *spec.MTLS)
	}
	if len(spec.PortLevelMTLS) > 0 && !p.selected {
		doubt("spec.portLevelMtls", "needs a selector: the mode is STRICT")
	}
	for _, port := range slices.Sorted(maps.Keys(spec.PortLevelMTLS)) {
		field := "spec.portLevelMtls"
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			doubt(field, "%q is no port: the mode is STRICT", port)
			continue
		}
		if m := read(field, spec.PortLevelMTLS[port]); m != unset {
			p.ports[uint16(n)] = m
		}
	}
	if closed {
		p.mode, p.ports = strict, nil
	}
	if p.ignored = p.selected && o.Namespace == root; p.ignored {
		o.problem("spec.selector", "one with a selector is not applied in the root namespace")
	}
}

// mtls returns the policy that denies clients without an identity where one is wanted: by
// the oldest PeerAuthentication that selects the workload, or else that of its
// namespace, or else that of the mesh. covering are the objects that are about the workload.
func (o *Objects) mtls(covering []*Object) (authz.Policy, bool) {
	var levels [3]*Object // mesh, namespace, workload
	for _, object := range covering {
		p := object.peer
		if p == nil || p.ignored {
			continue
		}
		level := 0
		if object.Namespace != o.mesh.RootNamespace {
			level = 1
			if p.selected {
				level = 2
			}
		}
		if levels[level] == nil {
			levels[level] = object
		}
	}
	all, by := permissive, ""
	var ports map[uint16]mode
	for _, object := range levels {
		if object == nil {
			continue
		}
		if object.peer.mode != unset {
			all, by = object.peer.mode, object.String()
		}
		if ports = object.peer.ports; len(ports) > 0 {
			by = object.String()
		}
	}
	var other []authz.PortRange // ports with another mode
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		if ports[port] != all {
			other = append(other, authz.Port(port))
		}
	}
	rule := authz.Rule{From: []authz.Source{{Authentication: authz.Unauthenticated}}}
	switch {
	case all == strict && len(other) > 0:
		rule.To = []authz.Operation{{NotPorts: other}}
	case all == strict:
	case len(other) > 0:
		rule.To = []authz.Operation{{Ports: other}}
	default:
		return authz.Policy{}, false
	}
	return authz.Policy{Name: by, Action: authz.ActionDeny, Rules: []authz.Rule{rule}}, true
}
