package translate

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/depend"
	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Translator keeps a translation current: Apply costs what a batch changes, and not what there
// is. It belongs to one goroutine. What it returns may be read by others.
type Translator struct {
	index
	config Config
	out    output
	result *Result // nil: it is to be made

	foreign        int // policies of CNIs without a namespace
	foreignUnknown bool
	wire           depend.Node // an input: the two above

	parsed          map[*custom.PolicyObject]any
	authentications depend.Node // an input: authenticating
	authenticating  map[objectKey]*custom.PolicyObject

	since   int                         // changes since the last sweep
	objects map[objectKey]metav1.Object // all but pods
	routes  map[objectKey]*routeUnit
	egress  map[objectKey]*egressUnit
	traffic map[objectKey]*trafficPolicy
}

// New returns a Translator without objects.
func New(c Config) *Translator {
	if len(c.ClusterNetworks) == 0 {
		c.ClusterNetworks = DefaultClusterNetworks
	}
	tr := &Translator{
		index: newIndex(), config: c, out: newOutput(), parsed: map[*custom.PolicyObject]any{}, authenticating: map[objectKey]*custom.PolicyObject{},
		objects: map[objectKey]metav1.Object{}, routes: map[objectKey]*routeUnit{}, egress: map[objectKey]*egressUnit{}, traffic: map[objectKey]*trafficPolicy{},
	}
	tr.policiesOf(tr.rootNamespace())
	return tr
}

func (tr *Translator) rootNamespace() string {
	if tr.config.IstioRootNamespace != "" {
		return tr.config.IstioRootNamespace
	}
	return istiopolicy.DefaultRootNamespace
}

// Apply translates what a batch changes, and says what has changed of the Result.
func (tr *Translator) Apply(b Batch) Changes {
	if tr.foreignUnknown != b.ForeignUnknown {
		tr.foreignUnknown = b.ForeignUnknown
		tr.graph.Touch(&tr.wire)
	}
	in := &noting{tr}
	for _, c := range b.Changes {
		in.note(c)
	}
	tr.graph.Settle()
	if tr.since += len(b.Changes); tr.since > tr.Units() {
		tr.since = 0
		tr.sweep()
	}
	c := tr.out.take()
	if !c.Empty() || c.Statuses || c.Problems {
		tr.result = nil
	}
	return c
}

// Result returns all that there is. To collect it takes time that grows with the cluster.
func (tr *Translator) Result() *Result {
	if tr.result == nil {
		r := tr.out.result()
		tr.result = &r
	}
	return tr.result
}

// Statuses returns the RouteStatuses of the Result, in no particular order, and Problems its
// problems. They cost what the statuses and problems are.
func (tr *Translator) Statuses() []RouteStatus { return tr.out.statuses() }
func (tr *Translator) Problems() []Problem     { return tr.out.problems() }

// Authz returns the policies of a pod, nil if none apply to it.
func (tr *Translator) Authz(uid string) *authz.Spec { return tr.out.authz.now[uid] }

// Nodes returns the addresses of the nodes, in no particular order.
func (tr *Translator) Nodes() []netip.Addr {
	return slices.Concat(slices.Collect(maps.Values(tr.out.nodes))...)
}

// Known returns the object with the kind and name of o, as it was taken in last; nil: there is
// none.
func (tr *Translator) Known(o metav1.Object) metav1.Object { return tr.known(keyOf(o)) }

// known returns the object of a key. A pod is not in objects, because its workload has it.
func (tr *Translator) known(k objectKey) metav1.Object {
	if k.kind != kindPod {
		return tr.objects[k]
	}
	if w := tr.workloads[name{k.namespace, k.name}]; w != nil && w.object != nil {
		return w.object
	}
	return nil
}

// Work returns how many values were computed since the start: a measure of the work that does
// not depend on the machine.
func (tr *Translator) Work() uint64 { return tr.graph.Computed() }

func (tr *Translator) translation() *translation {
	return &translation{lookups: lookups{tr}, config: &tr.config}
}

// winner returns the policy that sets the retry budget of a Service, nil for none.
func (tr *Translator) winner(n name) metav1.Object {
	s := tr.svc(n)
	tr.graph.Read(&s.budget.Node)
	if s.budget.winner == nil {
		return nil
	}
	return s.budget.winner
}

// routeUnit is a route of the Gateway API, or an HTTPRoute of policy.linkerd.io.
type routeUnit struct {
	depend.Node
	tr     *Translator
	object metav1.Object // nil: it is gone
	at     []mesh.ServicePortRef
}

// Compute translates the route. It depends on the Services, EgressNetworks and HTTPFaults that
// it names, as far as they say something themselves: their endpoints do not matter.
func (u *routeUnit) Compute() bool {
	t := u.tr.translation()
	switch r := u.object.(type) {
	case *gatewayv1.HTTPRoute:
		t.addHTTPRoute(r)
	case *gatewayv1.GRPCRoute:
		t.addGRPCRoute(r)
	case *gatewayv1.TLSRoute:
		t.addTLSRoute(r)
	case *gatewayv1.TCPRoute:
		t.addTCPRoute(r)
	case *custom.PolicyObject:
		t.addLinkerdHTTPRoute(r)
	}
	u.tr.out.say(&u.Node, &t.Result)
	var at []mesh.ServicePortRef
	for _, r := range t.Routes {
		if !r.Consumer() && !r.Egress {
			at = append(at, r.Parent)
		}
	}
	for _, p := range u.at {
		u.tr.produce(p, -1)
	}
	for _, p := range at {
		u.tr.produce(p, 1)
	}
	u.at = at
	return false
}

// produce counts the routes of a Service's port that are of its own namespace.
func (tr *Translator) produce(at mesh.ServicePortRef, n int) {
	s := tr.svc(name{at.Namespace, at.Name})
	if s.producers == nil {
		s.producers = map[uint16]int{}
	}
	if s.producers[at.Port] += n; s.producers[at.Port] == 0 {
		delete(s.producers, at.Port)
	}
	tr.graph.Touch(&s.producing)
}

// egressUnit is an EgressNetwork. It depends on nothing else.
type egressUnit struct {
	depend.Node
	tr     *Translator
	name   name
	object *custom.EgressNetwork // nil: it is gone
}

// Compute translates the network.
func (u *egressUnit) Compute() bool {
	t := u.tr.translation()
	if u.object != nil {
		t.addEgressNetwork(u.object)
	}
	var n *mesh.EgressNetwork
	if len(t.Egress) > 0 {
		n = t.Egress[0]
	}
	if old := u.tr.out.egress.now[u.name]; old == nil || n == nil || !reflect.DeepEqual(old, n) {
		u.tr.out.egress.set(u.name, n)
	}
	u.tr.out.say(&u.Node, &t.Result)
	return false
}

// Misread returns how often a value was computed from one that may not have been current. It
// is 0: tests look at it.
func (tr *Translator) Misread() uint64 { return tr.graph.Misread() }
