// Package rehearse judges recorded calls by policies that are not applied (Try), and
// writes the policies that recorded calls need (Suggest). It is pure.
package rehearse

import (
	"net/netip"
	"strings"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Target is a workload that was called.
type Target struct{ Namespace, Kind, Name string }

// Call is what calls that are alike have in common. It is comparable.
type Call struct {
	Target  Target
	Client  mesh.Identity // zero: none
	Address netip.Addr    // of the client; zero: not recorded
	Port    uint16        // of the workload; 0: not recorded
	// Method is that of a request. Without it, the call is a connection that carried no
	// requests which the mesh reads, or of which only the ends were recorded.
	Method string
	Host   string
	Path   string // without the query; it may be a template: {*} is any segment, {**} any text
}

// Denied reports whether an event is about something that the mesh has denied, and that
// no policy has to allow.
func Denied(e *tap.Event) bool {
	return e.Reason == mesh.ReasonPolicyDenied || e.Reason == mesh.ReasonNoIdentity || e.Reason == mesh.ReasonRouteNotFound
}

// FromEvent returns the call that an event is about: the end of a request or a connection, at
// the node of the server. ok is false for other events, and for those of which the server is
// no known pod.
func FromEvent(e *tap.Event) (c Call, ok bool) {
	w := e.Destination.Workload
	if w == nil || e.Direction != mesh.Inbound || e.Kind != tap.ResponseEnd && e.Kind != tap.ConnClose {
		return Call{}, false
	}
	c = Call{
		Target: Target{w.Namespace, w.OwnerKind, w.OwnerName},
		Client: e.Source.Identity, Address: e.Source.Addr.Addr().Unmap(), Port: e.Destination.Addr.Port(),
	}
	if e.Kind == tap.ResponseEnd {
		c.Method, c.Host = e.Method, e.Authority
		c.Path, _, _ = strings.Cut(e.Path, "?")
	}
	return c, true
}

// FromAgent adds the calls that an agent has recorded of pods with policies.
func FromAgent(m *agentv1.CallsResponse, add func(c Call, count uint64)) {
	for _, j := range m.GetCalls() {
		if int(j.GetPod()) >= len(m.GetPods()) {
			continue
		}
		pod := m.GetPods()[j.GetPod()]
		c := Call{
			Target: Target{pod.GetNamespace(), pod.GetOwnerKind(), pod.GetOwnerName()},
			Port:   uint16(j.GetPort()), Method: j.GetMethod(), Host: j.GetHost(), Path: j.GetPath(),
		}
		c.Client, _ = mesh.ParseIdentity(j.GetClient())
		c.Address, _ = netip.ParseAddr(j.GetAddress())
		add(c, max(j.GetCalls(), 1)) // a connection that was opened before still counts
	}
}

// FromFigures adds the calls between workloads that figures tell of. These know neither ports
// nor requests, and the identity that a workload has, which may not be proven on each
// connection.
func FromFigures(f *tapv1alpha1.Figures, add func(c Call, count uint64)) {
	at := func(i int) *tapv1alpha1.Resource {
		if i < 0 || i >= len(f.Resources) {
			return nil
		}
		return &f.Resources[i]
	}
	for i := range f.Edges {
		e := &f.Edges[i]
		from, to := at(e.Source), at(e.Destination)
		if from == nil || to == nil || to.Name == "" || to.Kind == "service" || to.Kind == "external" || to.Kind == "other" {
			continue
		}
		c := Call{Target: Target{to.Namespace, to.Kind, to.Name}}
		if e.Secured == tap.TLSTrue || e.Secured == tap.TLSSameNode {
			c.Client, _ = mesh.ParseIdentity(from.Identity)
		}
		count := uint64(1)
		if e.Total != nil {
			count = max(count, e.Total.Requests)
		}
		add(c, count)
	}
}

// Calls counts calls that are alike.
type Calls struct {
	Counts map[Call]uint64
	// Dropped calls are not in Counts, because these have as many different ones as they may.
	Dropped uint64
	most    int
}

// NewCalls returns Calls of at most that many different ones.
func NewCalls(most int) *Calls { return &Calls{Counts: map[Call]uint64{}, most: most} }

// maxText bounds the texts of a call, in bytes. Calls with longer ones are dropped.
const maxText = 4096

// Add adds calls.
func (s *Calls) Add(c Call, count uint64) {
	if len(c.Path) > maxText || len(c.Host) > maxText || len(c.Method) > maxText {
		s.Dropped += count
		return
	}
	if _, ok := s.Counts[c]; !ok {
		if len(s.Counts) >= s.most {
			s.Dropped += count
			return
		}
		// The texts may point into a buffer that is reused.
		c.Method, c.Host, c.Path = strings.Clone(c.Method), strings.Clone(c.Host), strings.Clone(c.Path)
	}
	s.Counts[c] += count
}
