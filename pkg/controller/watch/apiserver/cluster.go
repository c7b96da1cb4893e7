// Package apiserver keeps a copy of the Kubernetes objects that the mesh reads
// equal to those of an API server.
package apiserver

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

	"github.com/underlane/underlane/pkg/controller/customclient"
	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
)

// Cluster has the objects of a Kubernetes cluster. While the API server does not
// answer, the last known objects stay.
type Cluster struct {
	log       *slog.Logger
	client    kubernetes.Interface
	debouncer *watch.Debouncer

	custom        *customclient.Clients
	optional      optionals
	discoverEvery time.Duration

	stores   []kind.Store // of all kinds
	builtIn  []followed   // kinds that every API server has
	pods     *kind.StoreOf[*translate.Pod]
	nodes    *kind.StoreOf[*corev1.Node]
	byNode   nodeIndex
	synced   chan struct{}
	syncOnce sync.Once

	mu       sync.Mutex
	problems map[string]watch.Problem // by resource
	failures uint64
}

// followed is a kind and the store of its objects.
type followed struct {
	kind.Kind
	store kind.Store
}

// NewCluster returns a Cluster that is empty before Run.
func NewCluster(client kubernetes.Interface, clients *customclient.Clients, log *slog.Logger) *Cluster {
	c := &Cluster{
		log: log, client: client, custom: clients, debouncer: watch.NewDebouncer(), synced: make(chan struct{}),
		discoverEvery: discoverEvery, problems: map[string]watch.Problem{},
	}
	for _, k := range kind.All {
		s := k.NewStore(c.changed)
		c.stores = append(c.stores, s)
		if k.Of().Optional {
			c.optional.all = append(c.optional.all, &optional{followed: followed{k, s}})
		} else {
			c.builtIn = append(c.builtIn, followed{k, s})
		}
		switch s := s.(type) {
		case *kind.StoreOf[*translate.Pod]:
			c.pods = s
		case *kind.StoreOf[*corev1.Node]:
			c.nodes = s
		}
	}
	return c
}

// Run keeps the objects current until ctx ends, and then returns ctx's error.
func (c *Cluster) Run(ctx context.Context) error {
	var g sync.WaitGroup
	for _, f := range c.builtIn {
		name := f.Of().Name
		lw := &noted{
			ListWatch: cache.NewListWatchFromClient(getter(c.client, f.Of()), name, metav1.NamespaceAll, fields.Everything()),
			note:      func(err error) { c.note(name, err) },
		}
		g.Go(func() { Reflect(ctx, name, lw, f.Object(), stripping{f.store}) })
	}
	g.Go(func() { c.followOptional(ctx) })
	g.Wait()
	return ctx.Err()
}

// getter returns the client for a built-in resource.
func getter(client kubernetes.Interface, of *kind.Resource) cache.Getter {
	switch of.Group {
	case discoveryv1.GroupName:
		return client.DiscoveryV1().RESTClient()
	case networkingv1.GroupName:
		return client.NetworkingV1().RESTClient()
	}
	return client.CoreV1().RESTClient()
}

// stripping makes a Reflector strip the objects of a list before it stores them.
type stripping struct{ kind.Store }

// Transformer implements cache.TransformingStore.
func (s stripping) Transformer() cache.TransformFunc { return s.Strip }

// Reflect keeps store equal to the objects that lw lists and watches, until ctx
// ends. When the API server returns after an outage, Reflect reconnects within
// seconds. client-go's informers may take half a minute.
func Reflect(ctx context.Context, name string, lw cache.ListerWatcher, object any, store cache.ReflectorStore) {
	cache.NewReflectorWithOptions(lw, object, store, cache.ReflectorOptions{
		Name:    name,
		Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Cap: 2 * time.Second, Steps: 10, Factor: 2, Jitter: 0.5},
	}).RunWithContext(ctx)
}

// Synced returns a channel that is closed when every kind has been listed once.
func (c *Cluster) Synced() <-chan struct{} { return c.synced }

// changed is called after each change of a store.
func (c *Cluster) changed() {
	for _, f := range c.builtIn {
		if !f.store.Synced() {
			return
		}
	}
	if !c.optional.synced() {
		return
	}
	c.syncOnce.Do(func() { close(c.synced) })
	c.debouncer.Trigger()
}

// Objects returns the cluster's current objects. They are incomplete before Synced
// is closed.
func (c *Cluster) Objects() *translate.Objects {
	out := &translate.Objects{}
	for _, s := range c.stores {
		s.Fill(out)
	}
	out.ForeignUnknown = c.optional.foreignUnknown()
	return out
}

// Next returns what has changed since the last call. The first has everything.
func (c *Cluster) Next() translate.Batch {
	var b translate.Batch
	for _, s := range c.stores {
		s.Take(&b)
	}
	b.ForeignUnknown = c.optional.foreignUnknown()
	return b
}

// Kind returns the kind of its problems: resources.
func (c *Cluster) Kind() string { return "resource" }

// AsOf returns the current time, because Objects has everything that the API server
// has sent.
func (c *Cluster) AsOf() time.Time { return time.Now() }

// Nodes returns the cluster's nodes: names and internal addresses.
func (c *Cluster) Nodes() []*corev1.Node { return c.nodes.All() }

// Pod returns the pod with this UID, with the fields that the mesh reads. It
// returns nil when there is no such pod.
func (c *Cluster) Pod(uid string) *translate.Pod {
	p, _ := c.pods.Get(types.UID(uid))
	return p
}

// Changes returns a channel that receives after Objects or Problems changed.
// Several changes may give one signal.
func (c *Cluster) Changes() <-chan struct{} { return c.debouncer.C() }

// Problems returns the resources that cannot be watched now, sorted by name.
func (c *Cluster) Problems() []watch.Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []watch.Problem
	for _, resource := range slices.Sorted(maps.Keys(c.problems)) {
		out = append(out, c.problems[resource])
	}
	return out
}

// Failures returns the number of lists and watches that failed.
func (c *Cluster) Failures() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failures
}

// Origin returns "": in a cluster the object's name is sufficient to find it.
func (c *Cluster) Origin(string, string, string) string { return "" }

// note records whether a list or watch of resource failed.
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
	now := watch.Problem{Resource: resource, Reason: cause(err).Error()}
	c.problems[resource] = now
	if !had || was != now {
		c.log.Warn("resource cannot be watched: going on with its last known state", "resource", resource, "err", err)
	}
}

// cause removes the URL, which differs between attempts, so that a lasting problem
// is logged once.
func cause(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

// noted is a ListerWatcher that calls note with the result of each list and watch.
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
