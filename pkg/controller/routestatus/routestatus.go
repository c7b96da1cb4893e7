// Package routestatus writes the status of routes in the form that the Gateway API
// requires: whether each parent accepted the route, and whether the route's
// references could be resolved. It also writes that of policies: whether they are understood.
package routestatus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/customclient"
	"github.com/underlane/underlane/pkg/controller/translate"
)

const (
	workers = 2
	timeout = 10 * time.Second
	// quiet is the shortest time between two writes to a route. If the same is to be written
	// again, another program has replaced it, such as a controller of Linkerd that says
	// something else: the time then doubles, up to longest.
	quiet, longest = time.Second, time.Minute
	// Rate limit of calls to the API server, for all routes together.
	callsPerSecond, callBurst = 20, 100
	// A failed write is tried again after retryFirst. The delay grows up to
	// retryLast.
	retryFirst, retryLast = 200 * time.Millisecond, time.Minute
)

// resources are the resources with a status, by kind.
var resources = map[string]*custom.Resource{
	custom.HTTPRoutes.Kind: &custom.HTTPRoutes, custom.GRPCRoutes.Kind: &custom.GRPCRoutes,
	custom.BackendTrafficPolicies.Kind: &custom.BackendTrafficPolicies,
	custom.TLSRoutes.Kind:              &custom.TLSRoutes, custom.TCPRoutes.Kind: &custom.TCPRoutes,
	custom.EgressNetworks.Kind:        &custom.EgressNetworks,
	kindOf(&custom.Policies):          &custom.Policies,
	kindOf(&custom.RateLimitPolicies): &custom.RateLimitPolicies,
	kindOf(&custom.IstioPolicies):     &custom.IstioPolicies,
	kindOf(&custom.IstioPeers):        &custom.IstioPeers,
	kindOf(&custom.IstioRequests):     &custom.IstioRequests,
	kindOf(&custom.LinkerdHTTPRoutes): &custom.LinkerdHTTPRoutes,
	kindOf(&custom.LinkerdRateLimits): &custom.LinkerdRateLimits,
}

// route names a route or a policy. The status of a policy's ancestors has the same
// shape as that of a route's parents.
type route struct{ kind, namespace, name string }

// Writer writes the status of routes.
type Writer struct {
	clients *customclient.Clients
	log     *slog.Logger
	calls   *rate.Limiter

	written, failed atomic.Uint64

	mu     sync.Mutex
	wanted map[route][]gatewayv1.RouteParentStatus // statuses that the objects do not have yet
	last   map[route]write
	queue  workqueue.TypedRateLimitingInterface[route]
}

// write is the last write to a route.
type write struct {
	at    time.Time
	what  []gatewayv1.RouteParentStatus
	again int // how often the same was written before
}

// wait returns how long the next write has to wait at now.
func (w *write) wait(next []gatewayv1.RouteParentStatus, now time.Time) time.Duration {
	pause := quiet
	if equality.Semantic.DeepEqual(w.what, next) {
		for range w.again {
			pause = min(2*pause, longest)
		}
	}
	return pause - now.Sub(w.at)
}

// New returns a Writer that writes nothing before Lead.
func New(clients *customclient.Clients, log *slog.Logger) *Writer {
	return &Writer{
		clients: clients, log: log, calls: rate.NewLimiter(callsPerSecond, callBurst), last: map[route]write{},
	}
}

// Stats returns the number of statuses written, and the number of failed writes.
func (w *Writer) Stats() (written, failed uint64) { return w.written.Load(), w.failed.Load() }

// Update receives the translation's statuses of the routes in o. It does not block.
func (w *Writer) Update(o *translate.Objects, statuses []translate.RouteStatus) {
	wanted := outdated(o, statuses)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted = wanted
	maps.DeleteFunc(w.last, func(_ route, last write) bool { return time.Since(last.at) > 2*longest })
	w.enqueue()
}

// outdated returns the statuses that differ from those of the objects. For a route
// that has no parents any more it returns an empty status, which removes
// Underlane's entries.
func outdated(o *translate.Objects, statuses []translate.RouteStatus) map[route][]gatewayv1.RouteParentStatus {
	want := make(map[route][]gatewayv1.RouteParentStatus, len(statuses))
	for i := range statuses {
		s := &statuses[i]
		want[route{s.Kind, s.Namespace, s.Name}] = s.Parents
	}
	out := map[route][]gatewayv1.RouteParentStatus{}
	look := func(kind string, m *metav1.ObjectMeta, now []gatewayv1.RouteParentStatus) {
		r := route{kind, m.Namespace, m.Name}
		if _, changed := Merge(now, want[r], metav1.Time{}, mostParents(kind)); changed {
			out[r] = want[r]
		}
	}
	for _, r := range o.HTTPRoutes {
		look(translate.KindHTTPRoute, &r.ObjectMeta, r.Status.Parents)
	}
	for _, r := range o.GRPCRoutes {
		look(translate.KindGRPCRoute, &r.ObjectMeta, r.Status.Parents)
	}
	for _, r := range o.TLSRoutes {
		look(translate.KindTLSRoute, &r.ObjectMeta, r.Status.Parents)
	}
	for _, r := range o.TCPRoutes {
		look(translate.KindTCPRoute, &r.ObjectMeta, r.Status.Parents)
	}
	for _, n := range o.EgressNetworks {
		look(translate.KindEgressNetwork, &n.ObjectMeta, fromConditions(n.Status.Conditions))
	}
	for _, p := range o.TrafficPolicies {
		look(custom.BackendTrafficPolicies.Kind, &p.ObjectMeta, fromAncestors(p.Status.Ancestors))
	}
	lookPolicies(o.PolicyObjects, look)
	return out
}

// enqueue queues all routes in wanted. The caller holds w.mu.
func (w *Writer) enqueue() {
	if w.queue == nil {
		return
	}
	for r, want := range w.wanted {
		last := w.last[r]
		w.queue.AddAfter(r, last.wait(want, time.Now()))
	}
}

// Lead writes until ctx ends, and then returns ctx's error. Only the leader of
// several replicas runs it.
func (w *Writer) Lead(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[route](retryFirst, retryLast))
	w.mu.Lock()
	w.queue = queue
	w.enqueue()
	w.mu.Unlock()
	var g sync.WaitGroup
	for range workers {
		g.Go(func() {
			for {
				r, stop := queue.Get()
				if stop {
					return
				}
				w.work(ctx, queue, r)
				queue.Done(r)
			}
		})
	}
	<-ctx.Done()
	w.mu.Lock()
	w.queue = nil
	w.mu.Unlock()
	queue.ShutDown()
	g.Wait()
	return ctx.Err()
}

func (w *Writer) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[route], r route) {
	w.mu.Lock()
	want, ok := w.wanted[r]
	last := w.last[r]
	wait := last.wait(want, time.Now())
	w.mu.Unlock()
	if !ok || ctx.Err() != nil {
		return
	}
	if wait > 0 { // the route was queued again while it was written
		queue.AddAfter(r, wait)
		return
	}
	err := w.write(ctx, r, want)
	if apierrors.IsConflict(err) { // another client wrote first: read the route again
		queue.AddRateLimited(r)
		return
	}
	if err != nil && ctx.Err() == nil {
		if w.failed.Add(1); queue.NumRequeues(r) == 0 {
			w.log.Warn("a route's status could not be written: trying again", "kind", r.kind, "route", r.namespace+"/"+r.name, "err", err)
		}
		queue.AddRateLimited(r)
		return
	}
	queue.Forget(r)
}

// write updates the status of r. It reads the status first, because the list of
// parents is shared with other controllers and must be written as a whole.
func (w *Writer) write(ctx context.Context, r route, want []gatewayv1.RouteParentStatus) error {
	if err := w.calls.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resource := resources[r.kind]
	// Not every cluster has the preferred version of a resource.
	client, text, err := w.read(ctx, resource, r)
	if apierrors.IsNotFound(err) {
		return nil // the route or its CRD is gone
	}
	if err != nil {
		return err
	}
	var now struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Status   status            `json:"status"`
	}
	if err := json.Unmarshal(text, &now); err != nil {
		return fmt.Errorf("read the route: %w", err)
	}
	form := formOf(r.kind)
	merged, changed := Merge(now.Status.has(form), want, metav1.Now(), mostParents(r.kind))
	if !changed {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": now.Metadata.UID, "resourceVersion": now.Metadata.ResourceVersion},
		"status":   now.Status.with(form, merged),
	})
	if err != nil {
		return err
	}
	err = client.Patch(types.MergePatchType).Namespace(r.namespace).Resource(resource.Name).Name(r.name).
		SubResource("status").Body(patch).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		w.written.Add(1)
		w.mu.Lock()
		this := write{at: time.Now(), what: want}
		if last, ok := w.last[r]; ok && equality.Semantic.DeepEqual(last.what, want) {
			this.again = last.again + 1
		}
		w.last[r] = this
		w.mu.Unlock()
	}
	return err
}
