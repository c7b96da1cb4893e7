package history

import (
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
)

// edge is one key that the history tells apart. It is never changed, except last, which
// queries read without Store.mu.
type edge struct {
	key   interned
	class class
	node  string       // whose agent was the first to report it
	last  atomic.Int64 // the last minute that it is in
}

func newEdge(key interned, node string, last int64) *edge {
	e := &edge{key: key, class: classOf(&key), node: node}
	e.last.Store(last)
	return e
}

// interned is a figures.Key without its route, with one pointer for each name: the same
// workloads come in many keys. It is comparable among those of one names.
type interned struct {
	source, destination *figures.End
	service             *figures.Service
	protocol, tls       string
	direction           mesh.Direction
}

func (k *interned) key() figures.Key {
	return figures.Key{
		Direction: k.direction, Source: *k.source, Destination: *k.destination, Service: *k.service,
		Protocol: k.protocol, TLS: k.tls,
	}
}

// names has the one pointer for each name.
type names struct {
	ends     map[figures.End]*figures.End
	services map[figures.Service]*figures.Service
	texts    map[string]string
}

func newNames() names {
	return names{ends: map[figures.End]*figures.End{}, services: map[figures.Service]*figures.Service{}, texts: map[string]string{}}
}

func (n *names) text(s string) string {
	own, ok := n.texts[s]
	if !ok {
		own = strings.Clone(s) // it may be a part of a long message
		n.texts[own] = own
	}
	return own
}

func (n *names) end(e figures.End, add bool) *figures.End {
	own := n.ends[e]
	if own == nil && add {
		own = &figures.End{
			Namespace: n.text(e.Namespace), Kind: n.text(e.Kind), Name: n.text(e.Name), Identity: n.text(e.Identity), Meshed: e.Meshed,
		}
		n.ends[*own] = own
	}
	return own
}

func (n *names) service(s figures.Service, add bool) *figures.Service {
	own := n.services[s]
	if own == nil && add {
		own = &figures.Service{Namespace: n.text(s.Namespace), Name: n.text(s.Name)}
		n.services[*own] = own
	}
	return own
}

// intern returns the short form of k, which has no pods and nodes. Without add it returns
// false if it does not know a name.
func (n *names) intern(k *figures.Key, add bool) (interned, bool) {
	short := interned{
		direction: k.Direction, source: n.end(k.Source, add), destination: n.end(k.Destination, add), service: n.service(k.Service, add),
		protocol: k.Protocol, tls: k.TLS,
	}
	if add {
		short.protocol, short.tls = n.text(k.Protocol), n.text(k.TLS)
	}
	return short, short.source != nil && short.destination != nil && short.service != nil
}

// size estimates the memory in bytes. A map takes about half more than what is in it.
func (n *names) size() (total int) {
	for text := range n.texts {
		total += len(text)
	}
	return total + (len(n.ends)+len(n.services)/3)*int(unsafe.Sizeof(figures.End{}))*3 + len(n.texts)*2*int(unsafe.Sizeof(""))*3/2
}

// Bounds of what is kept of names. An agent that lies must not fill the budget with them,
// because then the steps of all would go. The longest names are those of DNS, with a port
// (RFC 1035, section 2.3.4), and identities.
const (
	maxName     = 320
	maxIdentity = 1024
)

// plausible reports whether the names of k are no longer than names can be.
func plausible(k *figures.Key) bool {
	for _, e := range []*figures.End{&k.Source, &k.Destination} {
		if len(e.Namespace) > maxName || len(e.Kind) > maxName || len(e.Name) > maxName || len(e.Identity) > maxIdentity {
			return false
		}
	}
	return len(k.Service.Namespace) <= maxName && len(k.Service.Name) <= maxName && len(k.Protocol) <= maxName && len(k.TLS) <= maxName
}

// workloads returns k as the history keeps it.
func workloads(k figures.Key) figures.Key {
	k.Route = figures.Route{}
	for _, e := range []*figures.End{&k.Source, &k.Destination} {
		e.Pod, e.Node, e.Address = "", "", ""
	}
	return k
}

// fold returns k without the name of the peer of the pod whose agent has reported it.
func fold(k figures.Key) figures.Key {
	peer := &k.Destination
	if k.Direction == mesh.Inbound {
		peer = &k.Source
	}
	*peer = figures.End{Kind: figures.KindOther, Name: figures.KindOther, Meshed: peer.Meshed}
	k.Service = figures.Service{}
	return k
}
