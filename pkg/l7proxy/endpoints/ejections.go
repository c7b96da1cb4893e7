package endpoints

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
)

// ejections counts ejected endpoints, by cause.
type ejections struct{ unreachable, failures atomic.Uint64 }

// Ejections returns how many endpoints were ejected, by cause: "unreachable" or
// "failures".
func (s *Set) Ejections() map[string]uint64 {
	e := &s.ejections
	return map[string]uint64{"unreachable": e.unreachable.Load(), "failures": e.failures.Load()}
}

// Count is how many endpoints of a service port this node uses (In) and has ejected.
type Count struct {
	Namespace, Service string
	Port               uint16
	In, Ejected        int
}

// Counts returns the counts of all service ports in use.
func (s *Set) Counts() []Count {
	var out []Count
	b := &s.balancers
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, pb := range b.byPort {
		ejected := pb.Ejected()
		out = append(out, Count{
			Namespace: key.namespace, Service: key.name, Port: key.port,
			In: max(pb.Len()-ejected, 0), Ejected: ejected,
		})
	}
	return out
}

// Ejected is an ejected endpoint, as it is shown to users.
type Ejected struct {
	Service  string         `json:"service"` // namespace/name:port
	Endpoint netip.AddrPort `json:"endpoint"`
	Pod      string         `json:"pod,omitempty"`  // namespace/name
	Node     string         `json:"node,omitempty"` // of the pod
	Cause    string         `json:"cause"`          // one of Ejections
}

// Ejected returns the endpoints that are ejected now.
func (s *Set) Ejected() []Ejected {
	out := []Ejected{}
	b := &s.balancers
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, pb := range b.byPort {
		for _, e := range pb.Ready() {
			if e.Admitted() {
				continue
			}
			is := Ejected{Service: fmt.Sprintf("%s/%s:%d", key.namespace, key.name, key.port), Endpoint: e.Addr, Cause: "failures"}
			if e.Unreachable() {
				is.Cause = "unreachable"
			}
			if w := e.Workload; w != nil {
				is.Pod, is.Node = w.Namespace+"/"+w.Name, w.Node
			}
			out = append(out, is)
		}
	}
	slices.SortFunc(out, func(a, b Ejected) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), a.Endpoint.Compare(b.Endpoint))
	})
	return out
}
