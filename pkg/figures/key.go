package figures

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Kinds of an End that are not the kind of a workload's owner.
const (
	KindExternal = "external" // outside the mesh's knowledge: see End.Name
	KindOther    = "other"    // folded: see Store
	KindNode     = mesh.KindNode
)

// End is one end of traffic. It is comparable.
type End struct {
	Namespace string
	Kind      string // that of mesh.Workload.OwnerKind, KindExternal, KindOther; "": no endpoint was chosen
	// Name is that of the owner. Of an end of KindExternal it is the host that the client has
	// named, HOST:PORT if only DNS says the host, or ADDRESS:PORT; "" for clients.
	Name     string
	Pod      string
	Node     string // of the pod
	Identity string // SPIFFE URI that the pod should have; "": it is not in the mesh
	Meshed   bool   // the pod's agent reports its traffic, too
	Observed bool   // the same, of a pod that is not in the mesh
	Address  string // ADDRESS:PORT of an end whose Name is from DNS; "": its Name is not
}

// Service names a Service.
type Service struct{ Namespace, Name string }

// Route names the rule of a route.
type Route struct{ Kind, Namespace, Name, Rule string }

// Key tells apart what is counted separately. It is comparable.
type Key struct {
	Direction           mesh.Direction
	Source, Destination End
	Service             Service // that the client called; zero: none, or not known (inbound)
	Route               Route   // that was applied; zero: none, or not known (inbound)
	Protocol            string  // that of tap.Event
	TLS                 string  // that of tap.Event
}

// EndOf returns the end that a known pod is.
func EndOf(w *mesh.Workload) End {
	e := End{Namespace: w.Namespace, Kind: w.OwnerKind, Name: w.OwnerName, Pod: w.Name, Node: w.Node, Meshed: w.Meshed, Observed: w.Observed}
	if w.Meshed {
		e.Identity = w.Identity.String()
	}
	return e
}

// fast finds the counters of an event without making a Key: it has the event's pointers
// in place of names. A pod or service that changes has a new pointer, and the same Key.
type fast struct {
	source, destination *mesh.Workload
	service             *mesh.Service
	route               *mesh.Route
	rule                string
	protocol, tls       string
	// Of a destination that is no known pod and no Service. The name comes from the
	// client, or with the address from DNS.
	name      string
	addr      netip.AddrPort
	direction mesh.Direction
}

func fastOf(e *tap.Event, direction mesh.Direction) fast {
	f := fast{
		source: e.Source.Workload, destination: e.Destination.Workload,
		protocol: e.Protocol, tls: e.TLS, direction: direction,
	}
	if direction == mesh.Inbound {
		return f
	}
	f.service, f.route, f.rule = e.Service, e.Route, e.Rule
	if f.destination == nil && f.service == nil {
		if f.name = e.Outside; f.name == "" {
			f.name, f.addr = e.DNS, e.Destination.Addr
		}
	}
	return f
}

func (f *fast) key() Key {
	k := Key{Direction: f.direction, Protocol: f.protocol, TLS: f.tls, Source: End{Kind: KindExternal}}
	if f.source != nil {
		k.Source = EndOf(f.source)
	}
	switch {
	case f.destination != nil:
		k.Destination = EndOf(f.destination)
	case f.service == nil && f.name != "" && f.addr.IsValid():
		k.Destination = End{Kind: KindExternal, Name: net.JoinHostPort(f.name, strconv.Itoa(int(f.addr.Port()))), Address: f.addr.String()}
	case f.service == nil && f.name != "":
		k.Destination = End{Kind: KindExternal, Name: f.name}
	case f.service == nil && f.addr.IsValid():
		k.Destination = End{Kind: KindExternal, Name: f.addr.String()}
	}
	if f.service != nil {
		k.Service = Service{f.service.Namespace, f.service.Name}
	}
	if f.route != nil {
		k.Route = Route{f.route.Kind, f.route.Namespace, f.route.Name, f.rule}
	}
	return k
}

// own returns the end at the agent's own node, and peer the other one.
func (k *Key) own() *End {
	if k.Direction == mesh.Inbound {
		return &k.Destination
	}
	return &k.Source
}

func (k *Key) peer() *End {
	if k.Direction == mesh.Inbound {
		return &k.Source
	}
	return &k.Destination
}

// foldPods returns the key without the pods' names, and without an address that has a name.
func (k Key) foldPods() Key {
	for _, e := range []*End{k.own(), k.peer()} {
		if e.Pod != "" {
			e.Pod = KindOther
		}
		e.Address = ""
	}
	return k
}

// foldPeer returns the key without the pods' names and the peer's. It keeps what tells
// which agents report the peer's side.
func (k Key) foldPeer() Key {
	k = k.foldPods()
	p := k.peer()
	*p = End{Kind: KindOther, Name: KindOther, Node: p.Node, Meshed: p.Meshed, Observed: p.Observed}
	k.Service, k.Route = Service{}, Route{}
	return k
}
