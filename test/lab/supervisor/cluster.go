package supervisor

import (
	"cmp"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/layout"
	"github.com/underlane/underlane/test/lab/manifest"
)

// cluster is the state of a lab. Commands run one at a time (opMu). mu guards the
// state and is never held while waiting.
type cluster struct {
	layout layout.Layout
	opts   api.Options
	log    *slog.Logger

	opMu sync.Mutex
	mu   sync.Mutex

	objects     map[string]metav1.Object // services, namespaces and so on, by manifest.Key
	deployments map[string]*deployment   // by namespace/name
	pods        map[string]*pod          // by namespace/name
	services    int                      // index of the newest service
	lastIndex   map[int]int              // node → index of the newest pod
	ending      bool                     // the lab is going down: start nothing
	end         chan struct{}            // closed when ending is set

	procs  map[string]*process // the controller and the agents, by node
	reaped sync.WaitGroup      // one for each child process of the lab

	syncMu  sync.Mutex
	kick    chan struct{}     // capacity 1; signalled when something changed that sync must apply
	done    map[string]string // what sync has written: manifest path or "rules" → text
	written time.Time         // time of the last change of the manifests
}

// deployment is a Deployment as it was applied and as it is now.
type deployment struct {
	obj  *appsv1.Deployment
	hash string    // of the template as applied: pod-template-hash
	set  types.UID // of its ReplicaSet
}

func newCluster(l layout.Layout, opts api.Options, log *slog.Logger) *cluster {
	return &cluster{
		layout: l, opts: opts, log: log,
		objects:     map[string]metav1.Object{},
		deployments: map[string]*deployment{},
		pods:        map[string]*pod{},
		lastIndex:   map[int]int{},
		procs:       map[string]*process{},
		end:         make(chan struct{}),
		kick:        make(chan struct{}, 1),
		done:        map[string]string{},
	}
}

// changed schedules a sync.
func (c *cluster) changed() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *cluster) staging() string { return filepath.Join(c.layout.StateDir(), "staging") }

// state returns the lab's state for the API.
func (c *cluster) state() api.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := api.State{Options: c.opts, Controller: c.procs[controllerProcess].report()}
	for n := 1; n <= c.opts.Nodes; n++ {
		node := layout.NodeName(n)
		s.Nodes = append(s.Nodes, api.Node{
			Name: node, Addrs: layout.NodeAddrs(n), Netns: c.layout.Netns(node),
			Cgroup: c.layout.NodeCgroup(node), Pins: c.layout.NodePins(node),
			Socket: c.layout.AgentSocket(node), Agent: c.procs[node].report(),
		})
	}
	for _, p := range c.sortedPods() {
		r := p.report(c.layout)
		r.Meshed = meshed(p.obj, c.objects["namespace//"+p.obj.Namespace])
		s.Pods = append(s.Pods, r)
	}
	for _, obj := range c.objects {
		if svc, ok := obj.(*corev1.Service); ok {
			s.Services = append(s.Services, api.Service{Namespace: svc.Namespace, Name: svc.Name, IPs: clusterIPs(svc)})
		}
	}
	slices.SortFunc(s.Services, func(a, b api.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return s
}

// sortedPods returns all pods, sorted by namespace and name. mu is held.
func (c *cluster) sortedPods() []*pod {
	pods := make([]*pod, 0, len(c.pods))
	for _, p := range c.pods {
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b *pod) int {
		return cmp.Or(cmp.Compare(a.obj.Namespace, b.obj.Namespace), cmp.Compare(a.obj.Name, b.obj.Name))
	})
	return pods
}

// schedule chooses node and index for a new pod. mu is held.
func (c *cluster) schedule(obj *corev1.Pod) (node, index int, err error) {
	wanted := cmp.Or(obj.Spec.NodeName, obj.Spec.NodeSelector[corev1.LabelHostname])
	owner := deploymentOf(obj)
	best := [2]int{}
	for n := 1; n <= c.opts.Nodes; n++ {
		if wanted != "" && wanted != layout.NodeName(n) {
			continue
		}
		var load [2]int // pods of the same owner, then all pods
		for _, p := range c.pods {
			if p.node == n {
				load[1]++
				if owner != "" && deploymentOf(p.obj) == owner && p.obj.Namespace == obj.Namespace {
					load[0]++
				}
			}
		}
		if node == 0 || slices.Compare(load[:], best[:]) < 0 {
			node, best = n, load
		}
	}
	if node == 0 {
		return 0, 0, fmt.Errorf("there is no node %q: this lab has node-1 to %s", wanted, layout.NodeName(c.opts.Nodes))
	}
	index, err = c.index(obj, node)
	return node, index, err
}

// freeIndex returns an unused index. It cycles through all of them, so that an
// address is not reused at once.
func (c *cluster) freeIndex(node int) (int, error) {
	used := map[int]bool{}
	for _, p := range c.pods {
		if p.node == node {
			used[p.index] = true
		}
	}
	span := layout.LastPod - layout.FirstPod + 1
	start := max(c.lastIndex[node]+1, layout.FirstPod) - layout.FirstPod
	for i := range span {
		index := layout.FirstPod + (start+i)%span
		if !used[index] {
			c.lastIndex[node] = index
			return index, nil
		}
	}
	return 0, fmt.Errorf("%s is full: it has %d pods", layout.NodeName(node), span)
}

// ensureNamespace makes a namespace and a service account that objects need but
// no manifest has. mu is held.
func (c *cluster) ensureNamespace(namespace, account string) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{corev1.LabelMetadataName: namespace}}}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account, Namespace: namespace}}
	for _, obj := range []metav1.Object{ns, sa} {
		if key := manifest.Key(obj); c.objects[key] == nil && obj.GetName() != "" {
			manifest.Complete(obj)
			c.objects[key] = obj
		}
	}
}
