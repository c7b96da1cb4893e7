package judged

import (
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
)

// Bounds of what an answer says of EgressNetworks.
const (
	maxAccessEgress = 50 // networks, and routes of one
	maxAccessRanges = 50 // of one network
)

// egress returns the EgressNetworks that decide about what pods of a namespace call: its own, or
// without these the global ones. nil: they are not known.
func (m *AccessMesh) egress(namespace string) []tapv1alpha1.AuthzEgress {
	if !m.KnowsEgress {
		return nil
	}
	own, global := []*mesh.EgressNetwork{}, []*mesh.EgressNetwork{}
	for _, n := range m.Egress {
		switch {
		case n.Namespace == namespace:
			own = append(own, n)
		case n.Global:
			global = append(global, n)
		}
	}
	if len(own) == 0 {
		own = global
	}
	out := []tapv1alpha1.AuthzEgress{}
	for _, n := range own[:min(len(own), maxAccessEgress)] {
		e := tapv1alpha1.AuthzEgress{
			Namespace: n.Namespace, Name: n.Name, Deny: n.Deny, Unknown: n.Unknown, Networks: []string{}, Routes: []tapv1alpha1.AuthzEgressRoute{},
		}
		for _, r := range n.Networks[:min(len(n.Networks), maxAccessRanges)] {
			text := r.CIDR.String()
			for i, x := range r.Except {
				if text += " except " + x.String(); i+1 == maxAccessRanges {
					break
				}
			}
			e.Networks = append(e.Networks, text)
		}
		for _, r := range m.Routes {
			// A route of another namespace than the network's is for clients of its own.
			if r.Egress && r.Parent.Namespace == n.Namespace && r.Parent.Name == n.Name && (r.Namespace == n.Namespace || r.Namespace == namespace) && len(e.Routes) < maxAccessEgress {
				e.Routes = append(e.Routes, tapv1alpha1.AuthzEgressRoute{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, Port: r.Parent.Port, Hostnames: r.Hostnames})
			}
		}
		out = append(out, e)
	}
	return out
}
