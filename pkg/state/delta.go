package state

import (
	"fmt"
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Delta is one step from a state of the mesh to a newer one. Apply applies all of it or
// nothing.
type Delta struct {
	Version   uint64     // the controller's snapshot that this delta leads to
	Resources []Resource // new or changed
	Removed   []string   // names of resources that are gone; unknown names are ignored
	Synced    bool       // the answer to everything subscribed so far is complete
}

// Resource is one named and versioned piece of state. Exactly one of Workload,
// Service, Address, Anchors, Route, Ranges, Authz and Egress is set, and Name is that of
// WorkloadName, ServiceName, AddressName, AnchorsName, RouteName, RangesName, AuthzName or
// EgressName.
// Version is opaque: two resources with the same name and version have the same
// content.
//
// After a Resource was applied, the Store owns what it points to.
type Resource struct {
	Name     string
	Version  string
	Workload *mesh.Workload
	Service  *mesh.Service // its endpoints' Workload is nil: the Store sets it, by WorkloadUID
	Address  *Address
	Anchors  *Anchors
	Route    *mesh.Route
	Ranges   *Ranges
	Authz    *Authz
	Egress   *mesh.EgressNetwork
}

// Address says that the controller has answered a subscription to Addr. The workloads and
// services say which of them has the address. If none has it, it is outside the mesh.
type Address struct {
	Addr netip.Addr
	Node bool // of a node: the services that have node ports come with it, too
}

// Anchors is the trust bundle: every CA certificate (DER) that peers'
// certificates may chain to.
type Anchors struct{ DER [][]byte }

// AnchorsName is the name of the one Anchors resource.
const AnchorsName = "anchors"

// Ranges contain the addresses of the mesh's pods and Services, among others.
type Ranges struct{ Prefixes []netip.Prefix }

// RangesName is the name of the one Ranges resource.
const RangesName = "ranges"

// Authz has the authorization policies of a workload.
type Authz struct {
	UID   string // of the workload
	Rules *authz.Workload
}

// AuthzName is the resource name of the policies of the workload with this UID.
func AuthzName(uid string) string { return "authz/" + uid }

// EgressName is the resource name of an EgressNetwork.
func EgressName(namespace, name string) string { return "egress/" + namespace + "/" + name }

// WorkloadName is the resource name of the workload with this UID.
func WorkloadName(uid string) string { return "workload/" + uid }

// ServiceName is the resource name of a service.
func ServiceName(namespace, name string) string { return "service/" + namespace + "/" + name }

// AddressName is the resource name of the answer about addr.
func AddressName(addr netip.Addr) string { return "address/" + addr.Unmap().String() }

// RouteName is the resource name of a route. A route object with several parents is
// several routes.
func RouteName(r *mesh.Route) string {
	of := "route"
	if r.Egress {
		of = "egressroute"
	}
	return fmt.Sprintf("%s/%s/%s/%d/%s/%s/%s", of, r.Parent.Namespace, r.Parent.Name, r.Parent.Port, r.Kind, r.Namespace, r.Name)
}

// check returns why r cannot be applied, or nil.
func (r *Resource) check() error {
	kinds, want := 0, ""
	if r.Workload != nil {
		kinds, want = kinds+1, WorkloadName(r.Workload.UID)
		if r.Workload.UID == "" {
			return fmt.Errorf("resource %q: a workload without a UID", r.Name)
		}
	}
	if r.Service != nil {
		kinds, want = kinds+1, ServiceName(r.Service.Namespace, r.Service.Name)
	}
	if r.Address != nil {
		kinds, want = kinds+1, AddressName(r.Address.Addr)
		if !r.Address.Addr.IsValid() {
			return fmt.Errorf("resource %q: not an IP address", r.Name)
		}
	}
	if r.Anchors != nil {
		kinds, want = kinds+1, AnchorsName
		if len(r.Anchors.DER) == 0 {
			return fmt.Errorf("resource %q: an empty trust bundle", r.Name)
		}
	}
	if r.Route != nil {
		kinds, want = kinds+1, RouteName(r.Route)
	}
	if r.Authz != nil {
		kinds, want = kinds+1, AuthzName(r.Authz.UID)
	}
	if r.Egress != nil {
		kinds, want = kinds+1, EgressName(r.Egress.Namespace, r.Egress.Name)
	}
	if r.Ranges != nil {
		kinds, want = kinds+1, RangesName
	}
	switch {
	case kinds != 1:
		return fmt.Errorf("resource %q: has %d contents, want exactly one: is the controller newer than this agent?", r.Name, kinds)
	case r.Name != want:
		return fmt.Errorf("resource %q: its content is that of %q", r.Name, want)
	}
	return nil
}
