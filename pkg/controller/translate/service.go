package translate

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/depend"
	"github.com/underlane/underlane/pkg/mesh"
)

// service is a Service with what is made of it, in steps: what it says itself, its routes by
// annotations, its retry budget, and last all of it with its endpoints.
type service struct {
	name
	tr     *Translator
	object *corev1.Service
	slices map[string]*discoveryv1.EndpointSlice

	shape     shapeUnit
	budget    budgetUnit
	full      fullUnit
	splits    splitsUnit
	routes    serviceRoutesUnit
	producing depend.Node    // an input: the keys of producers
	producers map[uint16]int // how many routes of its own namespace its ports have; port 0 stands for all
}

type shapeUnit struct {
	depend.Node
	s     *service
	value *shape // nil: there is no such Service
}

type fullUnit struct {
	depend.Node
	s *service
}

type splitsUnit struct {
	depend.Node
	s     *service
	of    map[string]*custom.TrafficSplit
	ports []uint16 // that are split
}

type serviceRoutesUnit struct {
	depend.Node
	s *service
}

func (u *shapeUnit) Compute() bool         { return u.s.computeShape() }
func (u *fullUnit) Compute() bool          { return u.s.computeFull() }
func (u *splitsUnit) Compute() bool        { return u.s.computeSplits() }
func (u *serviceRoutesUnit) Compute() bool { return u.s.computeRoutes() }

// shape is what a Service says itself.
type shape struct {
	svc      mesh.Service // without endpoints, external addresses and retry budget
	external bool         // of type ExternalName: all else is empty
	policy   requestPolicy
	created  time.Time
	claims   []netip.Addr // external addresses that it wants
}

// computeShape reads the Service, and depends on nothing else.
func (s *service) computeShape() bool {
	t := s.tr.translation()
	old := s.shape.value
	s.shape.value = nil
	if s.object != nil {
		s.shape.value = t.readService(s.object)
	}
	s.tr.out.say(&s.shape.Node, &t.Result)
	if old != nil && s.shape.value != nil && reflect.DeepEqual(old, s.shape.value) {
		s.shape.value = old
		return false
	}
	s.tr.indexService(s, old, s.shape.value)
	return old != s.shape.value
}

func (t *translation) readService(s *corev1.Service) *shape {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return &shape{external: true}
	}
	out := &shape{created: s.CreationTimestamp.Time, svc: mesh.Service{
		Name: s.Name, Namespace: s.Namespace, VIPs: t.clusterIPs(s),
		SessionAffinity: s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
		NodeLocal:       s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
	}}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if p.Port < 1 || p.Port > math.MaxUint16 {
			t.problem("Service", s.Namespace, s.Name, "port %d is not a port", p.Port)
			continue
		}
		port := mesh.ServicePort{Name: p.Name, Port: uint16(p.Port)}
		if isNodePort(s, p) && !out.svc.NodeLocal { // see claimExternal
			port.NodePort = uint16(p.NodePort)
		}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		out.svc.Ports = append(out.svc.Ports, port)
	}
	report := func(problems []string) {
		for _, p := range problems {
			t.problem("Service", s.Namespace, s.Name, "%s", p)
		}
	}
	var problems []string
	out.svc.FailureAccrual, problems = accrualOf(s.Annotations)
	report(problems)
	out.policy, problems = requestPolicyOf(s.Annotations)
	report(problems)
	out.claims = t.claimExternal(s, &out.svc)
	return out
}

// computeFull makes the Service with its endpoints. They come from its EndpointSlices if there
// are any, and otherwise from the ready pods that its selector matches. It depends on what
// computeShape has read, on these slices or on the pods with the selector's labels, on the pods
// behind the endpoints, on the settled claims to its external addresses, and on its retry budget.
func (s *service) computeFull() bool {
	t := &endpoints{s.tr.translation()}
	shape := s.tr.shape(s.name)
	if shape == nil || shape.external {
		s.tr.out.services.set(s.name, nil)
		s.tr.out.say(&s.full.Node, &t.Result)
		return false
	}
	out := shape.svc
	out.Ports = slices.Clone(out.Ports)
	bySlice := slices.SortedFunc(maps.Values(s.slices), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	i := 0
	for j := range s.object.Spec.Ports {
		p := &s.object.Spec.Ports[j]
		if i == len(out.Ports) || int32(out.Ports[i].Port) != p.Port || p.Name != out.Ports[i].Name || p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue // the shape is without it
		}
		if len(bySlice) > 0 {
			out.Ports[i].Endpoints = usable(t.sliceEndpoints(bySlice, p.Name), out.NodeLocal)
		} else if len(s.object.Spec.Selector) > 0 {
			out.Ports[i].Endpoints = usable(t.selectedEndpoints(s.object, p), out.NodeLocal)
		}
		i++
	}
	s.grant(shape, &out)
	s.tr.graph.Read(&s.budget.Node)
	out.RetryBudget = s.budget.value
	s.tr.out.say(&s.full.Node, &t.Result)
	if old := s.tr.out.services.now[s.name]; old == nil || !reflect.DeepEqual(old, &out) {
		s.tr.out.services.set(s.name, &out)
	}
	return false // nothing depends on it
}
