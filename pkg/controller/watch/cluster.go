package watch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// Cluster is a Kubernetes cluster kept in view through its API server. While
// that is away the last known state stays.
type Cluster struct {
	log    *slog.Logger
	client kubernetes.Interface
	pulse  *pulse

	custom        *custom.Clients
	optional      optionals
	discoverEvery time.Duration

	namespaces *shelf[*corev1.Namespace]
	nodes      *shelf[*corev1.Node]
	pods       *shelf[*corev1.Pod]
	services   *shelf[*corev1.Service]
	slices     *shelf[*discoveryv1.EndpointSlice]
	policies   *shelf[*networkingv1.NetworkPolicy]
	httpRoutes *shelf[*gatewayv1.HTTPRoute]
	grpcRoutes *shelf[*gatewayv1.GRPCRoute]
	traffic    *shelf[*gatewayx.XBackendTrafficPolicy]
	splits     *shelf[*custom.TrafficSplit]
	groups     *shelf[*custom.HTTPRouteGroup]
	faults     *shelf[*custom.HTTPFault]
	synced     chan struct{}
	syncOnce   sync.Once

	mu       sync.Mutex
	problems map[string]Problem // by resource
	failures uint64
}

// NewCluster returns a Cluster that sees nothing before Run.
func NewCluster(client kubernetes.Interface, clients *custom.Clients, log *slog.Logger) *Cluster {
	c := &Cluster{
		log: log, client: client, custom: clients, pulse: newPulse(), synced: make(chan struct{}),
		discoverEvery: discoverEvery, problems: map[string]Problem{},
	}
	c.namespaces = newShelf(stripNamespace, c.changed)
	c.nodes = newShelf(stripNode, c.changed)
	c.pods = newShelf(stripPod, c.changed)
	c.pods.same = samePod
	c.services = newShelf(stripService, c.changed)
	c.slices = newShelf(stripEndpointSlice, c.changed)
	c.policies = newShelf(stripNetworkPolicy, c.changed)
	c.httpRoutes = newShelf(stripHTTPRoute, c.changed)
	c.grpcRoutes = newShelf(stripGRPCRoute, c.changed)
	c.traffic = newShelf(stripTrafficPolicy, c.changed)
	c.splits = newShelf(stripTrafficSplit, c.changed)
	c.groups = newShelf(stripRouteGroup, c.changed)
	c.faults = newShelf(stripFault, c.changed)
	c.optional.all = []*optional{
		{Resource: custom.HTTPRoutes, object: &gatewayv1.HTTPRoute{}, store: c.httpRoutes},
		{Resource: custom.GRPCRoutes, object: &gatewayv1.GRPCRoute{}, store: c.grpcRoutes},
		{Resource: custom.BackendTrafficPolicies, object: &gatewayx.XBackendTrafficPolicy{}, store: c.traffic},
		{Resource: custom.TrafficSplits, object: &custom.TrafficSplit{}, store: c.splits},
		{Resource: custom.HTTPRouteGroups, object: &custom.HTTPRouteGroup{}, store: c.groups},
		{Resource: custom.HTTPFaults, object: &custom.HTTPFault{}, store: c.faults},
	}
	return c
}

// Run keeps the cluster in view until ctx ends, and then returns its error.
func (c *Cluster) Run(ctx context.Context) error {
	core := c.client.CoreV1().RESTClient()
	var g sync.WaitGroup
	for _, r := range []struct {
		name   string
		client cache.Getter
		object metav1.Object
		store  cache.ReflectorStore
	}{
		{"namespaces", core, &corev1.Namespace{}, c.namespaces},
		{"nodes", core, &corev1.Node{}, c.nodes},
		{"pods", core, &corev1.Pod{}, c.pods},
		{"services", core, &corev1.Service{}, c.services},
		{"endpointslices", c.client.DiscoveryV1().RESTClient(), &discoveryv1.EndpointSlice{}, c.slices},
		{"networkpolicies", c.client.NetworkingV1().RESTClient(), &networkingv1.NetworkPolicy{}, c.policies},
	} {
		lw := &noted{
			ListWatch: cache.NewListWatchFromClient(r.client, r.name, metav1.NamespaceAll, fields.Everything()),
			note:      func(err error) { c.note(r.name, err) },
		}
		g.Go(func() { Reflect(ctx, r.name, lw, r.object, r.store) })
	}
	g.Go(func() { c.followOptional(ctx) })
	g.Wait()
	return ctx.Err()
}

// Reflect keeps store equal to what lw lists and watches until ctx ends. It
// comes back to an API server that was away within seconds, where client-go's
// informers may take half a minute.
func Reflect(ctx context.Context, name string, lw cache.ListerWatcher, object any, store cache.ReflectorStore) {
	cache.NewReflectorWithOptions(lw, object, store, cache.ReflectorOptions{
		Name:    name,
		Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Cap: 2 * time.Second, Steps: 10, Factor: 2, Jitter: 0.5},
	}).RunWithContext(ctx)
}

// Synced is closed when everything has been listed once.
func (c *Cluster) Synced() <-chan struct{} { return c.synced }

func (c *Cluster) changed() {
	if !c.namespaces.full() || !c.nodes.full() || !c.pods.full() || !c.services.full() || !c.slices.full() || !c.policies.full() || !c.optional.full() {
		return
	}
	c.syncOnce.Do(func() { close(c.synced) })
	c.pulse.touch()
}

// Objects returns what the cluster holds now, nothing before Synced.
func (c *Cluster) Objects() *translate.Objects {
	return &translate.Objects{
		Namespaces: c.namespaces.all(), Nodes: c.nodes.all(), Pods: c.pods.all(), Services: c.services.all(),
		EndpointSlices: c.slices.all(), NetworkPolicies: c.policies.all(),
		HTTPRoutes: c.httpRoutes.all(), GRPCRoutes: c.grpcRoutes.all(), TrafficPolicies: c.traffic.all(),
		TrafficSplits: c.splits.all(), HTTPRouteGroups: c.groups.all(), HTTPFaults: c.faults.all(),
	}
}

// Kind returns what its problems are about: resources.
func (c *Cluster) Kind() string { return "resource" }

// AsOf is now: Objects is what the API server has told.
func (c *Cluster) AsOf() time.Time { return time.Now() }

// Nodes returns the cluster's nodes: names and internal addresses.
func (c *Cluster) Nodes() []*corev1.Node { return c.nodes.all() }

// HasNode reports whether the cluster has a node of this name.
func (c *Cluster) HasNode(name string) bool {
	return slices.ContainsFunc(c.nodes.all(), func(n *corev1.Node) bool { return n.Name == name })
}

// Pod returns the pod with this UID, stripped to what the mesh reads; nil when
// there is none.
func (c *Cluster) Pod(uid string) *corev1.Pod {
	p, _ := c.pods.get(types.UID(uid))
	return p
}

// Changes receives after Objects or Problems changed; changes are coalesced.
func (c *Cluster) Changes() <-chan struct{} { return c.pulse.c }

// Problems returns which resources cannot be watched now, sorted by name.
func (c *Cluster) Problems() []Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Problem
	for _, resource := range slices.Sorted(maps.Keys(c.problems)) {
		out = append(out, c.problems[resource])
	}
	return out
}

// Failures counts lists and watches that failed.
func (c *Cluster) Failures() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failures
}

// Origin returns "": an object's name says where it is.
func (c *Cluster) Origin(string, string, string) string { return "" }

// note takes down how a list or watch of resource went.
func (c *Cluster) note(resource string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, had := c.problems[resource]
	if err == nil {
		if had {
			delete(c.problems, resource)
			c.log.Info("resource is watched again", "resource", resource)
		}
		return
	}
	c.failures++
	now := Problem{Resource: resource, Reason: cause(err).Error()}
	c.problems[resource] = now
	if !had || was != now {
		c.log.Warn("resource cannot be watched: going on with its last known state", "resource", resource, "err", err)
	}
}

// cause leaves out the URL, which differs from try to try: so a problem that
// lasts is one, and logged once.
func cause(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// noted tells note how each call went.
type noted struct {
	*cache.ListWatch
	note func(error)
}

func (n *noted) ListWithContext(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	list, err := n.ListWatch.ListWithContext(ctx, opts)
	if ctx.Err() == nil {
		n.note(err)
	}
	return list, err
}

func (n *noted) WatchWithContext(ctx context.Context, opts metav1.ListOptions) (apiwatch.Interface, error) {
	w, err := n.ListWatch.WatchWithContext(ctx, opts)
	if ctx.Err() == nil {
		n.note(err)
	}
	return w, err
}
