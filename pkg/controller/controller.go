// Package controller is the control plane. It reads Kubernetes objects from a
// source, translates them, streams the result to the agents, and is the mesh's
// certificate authority.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/jwks"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Defaults of Options.
const (
	DefaultDataDir          = "/var/lib/underlane"
	DefaultListen           = ":8443"
	DefaultMetricsAddr      = "0.0.0.0:4192"
	DefaultWorkloadLifetime = time.Hour
	DefaultNodeLifetime     = 24 * time.Hour
)

const (
	stopTimeout = 5 * time.Second
	maxPause    = 50 * time.Millisecond // between two translations, however long one takes
)

// Options configure a Controller. With Manifests it reads a directory and keeps its
// keys in DataDir. Otherwise it works for a cluster.
type Options struct {
	Manifests string // directory of Kubernetes manifests
	DataDir   string // with Manifests: keys, and anchors.pem for the agents
	// Cluster opens the platform of a cluster (package cluster). New calls it when
	// Manifests is empty. nil means that this program does not support clusters.
	Cluster func(Options) (Platform, error)

	Listen           string // address that agents connect to
	MetricsAddr      string // Prometheus metrics, health and status over HTTP; "" is off
	TrustDomain      string
	WorkloadLifetime time.Duration // of workload certificates
	NodeLifetime     time.Duration // of node certificates
	Log              *slog.Logger

	// DefaultPolicy is that of pods without an annotation: see translate.ParseDefaultPolicy. "":
	// allow.
	DefaultPolicy string
	// ClusterNetworks are addresses and CIDRs of the cluster: see translate.Config. nil: the
	// private ranges.
	ClusterNetworks []string
	// IstioRootNamespace has Istio's policies for all namespaces. "": istio-system.
	IstioRootNamespace string
	// ExtensionProviders is a list as in Istio's MeshConfig, in JSON or YAML. "": none.
	ExtensionProviders string
}

// Controller is a control plane.
type Controller struct {
	platform  Platform
	source    Source
	authority Authority
	writer    Writer

	opt      Options
	server   *server.Server
	health   *health.Server
	accepts  *listener.Group // of all ports: they continue to accept after descriptors were exhausted
	listener net.Listener
	web      *web                         // nil when turned off
	tap      Tap                          // nil when turned off
	front    atomic.Pointer[server.Front] // nil until the controller starts to serve
	serving  atomic.Bool

	translation translate.Config

	state  *publication
	asOf   atomic.Pointer[time.Time] // the age of the objects in it: see Source.AsOf
	report report

	leaderAddr leaderAddr

	enrolments *enrolments
	keys       *jwks.Keys // of tokens
}

// New opens the parts that a controller needs: the authority (created at the first
// start), the source of objects and the listeners. It serves nothing before Run.
// Close releases the listeners of a Controller that is never run.
func New(opt Options) (*Controller, error) {
	if opt.WorkloadLifetime <= 0 || opt.NodeLifetime <= 0 {
		return nil, fmt.Errorf("lifetimes of certificates must be above zero: workload %s, node %s", opt.WorkloadLifetime, opt.NodeLifetime)
	}
	translation, err := opt.translation()
	if err != nil {
		return nil, err
	}
	open := opt.Cluster
	if opt.Manifests != "" {
		open = openFiles
	}
	if open == nil {
		return nil, errors.New("name a directory of --manifests: this program was built without the code for clusters (tag nocluster)")
	}
	p, err := open(opt)
	if err != nil {
		return nil, err
	}
	enrolments, err := newEnrolments(p.Writer(), p.EnrolledFile(), opt.Log)
	if err != nil {
		return nil, err
	}
	accepts := &listener.Group{Log: opt.Log}
	ln, err := net.Listen("tcp", opt.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for agents: %w", err)
	}
	keys := jwks.New(nil, opt.Log)
	var c *Controller
	leader := func() (bool, string) { return c.leader() }
	c = &Controller{
		keys:     keys,
		platform: p, source: p.Source(), authority: p.Authority(), writer: p.Writer(), opt: opt, accepts: accepts, listener: accepts.Patient(ln), health: health.NewServer(), enrolments: enrolments,
		translation: translation, state: newPublication(translation),
		server: server.New(server.Options{
			Authority: p.Authority(), Authenticate: p.Authenticate, NodeExists: p.HasNode, Observer: enrolments, StaleKeys: keys.Stale, Leader: leader,
			NodeLifetime: opt.NodeLifetime, WorkloadLifetime: opt.WorkloadLifetime, Log: opt.Log,
		}),
	}
	if opt.MetricsAddr != "" {
		c.web, err = newWeb(opt.MetricsAddr, c)
	}
	if err == nil {
		c.tap, err = p.OpenTap(c)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close releases the listeners. Run does it too.
func (c *Controller) Close() {
	_ = c.listener.Close()
	if c.web != nil {
		_ = c.web.listener.Close()
	}
	if c.tap != nil {
		c.tap.Close()
	}
}

// Accepts returns the group of all listeners of c. They continue to accept after
// descriptors were exhausted.
func (c *Controller) Accepts() *listener.Group { return c.accepts }

// Workloads returns the workloads that the controller has published to the agents.
// The slice is not changed later. To collect what Workloads, Services, Routes and Egress return
// takes time that grows with the mesh, once after a change.
func (c *Controller) Workloads() []*mesh.Workload { return c.state.result().Workloads }

// Services returns the services that the controller has published to the agents.
// The slice is not changed later.
func (c *Controller) Services() []*mesh.Service { return c.state.result().Services }

// Routes returns the routes that the controller has published to the agents. The
// slice is not changed later.
func (c *Controller) Routes() []*mesh.Route { return c.state.result().Routes }

// Objects returns the newest objects. They must not be changed.
func (c *Controller) Objects() *translate.Objects { return c.source.Objects() }

// Authz returns the policies of a pod that the controller has published, nil if none apply to
// it.
func (c *Controller) Authz(uid string) *authz.Spec { return c.state.spec(uid) }

// Egress returns the EgressNetworks that the controller has published.
func (c *Controller) Egress() []*mesh.EgressNetwork { return c.state.result().Egress }

// Translation returns how objects are translated.
func (c *Controller) Translation() translate.Config { return c.translation }

// Addr returns the address that agents connect to.
func (c *Controller) Addr() net.Addr { return c.listener.Addr() }

// MetricsAddr returns the address of the metrics server, nil when there is none.
func (c *Controller) MetricsAddr() net.Addr {
	if c.web == nil {
		return nil
	}
	return c.web.listener.Addr()
}

// Run serves until ctx ends, then stops gracefully and returns nil. It returns an
// error when a part that it needs fails.
func (c *Controller) Run(ctx context.Context) error {
	defer c.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.source.Run(ctx) })
	g.Go(func() error { return c.platform.Run(ctx) })
	g.Go(func() error { return c.keys.Run(ctx) })
	if c.web != nil {
		g.Go(c.web.serve)
		g.Go(func() error {
			<-ctx.Done()
			return c.web.http.Close()
		})
	}
	if c.tap != nil {
		g.Go(func() error { return c.tap.Run(ctx) })
	}
	g.Go(func() error { return c.serve(ctx) })
	if err := g.Wait(); !errors.Is(err, context.Canceled) && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serve waits until the platform is ready, and then serves until ctx ends.
func (c *Controller) serve(ctx context.Context) error {
	if err := c.platform.Ready(ctx); err != nil {
		return err
	}
	names, ips := servingNames(c.opt.Listen)
	tls, err := server.TLSConfig(c.authority, names, ips)
	if err != nil {
		return err
	}
	front := server.NewFront(tls, c.platform.IsNodeAddr, func(r grpc.ServiceRegistrar) {
		c.server.Register(r)
		healthpb.RegisterHealthServer(r, c.health)
	})
	c.front.Store(front)
	c.awaitKeys(ctx)
	c.publish(true)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.follow(ctx) })
	g.Go(func() error { return front.Serve(c.listener) })
	g.Go(func() error { return c.server.Lend(ctx) })
	g.Go(func() error { return share(ctx, c) })
	g.Go(func() error {
		<-ctx.Done()
		c.stop(front)
		return ctx.Err()
	})
	c.serving.Store(true)
	c.opt.Log.Info("controller is serving", "agents", c.Addr().String(), "trustDomain", c.opt.TrustDomain)
	return g.Wait()
}

// follow publishes each time the source, the authority or an enrolment has changed.
// After each publication it pauses for as long as the publication took, so that a
// large change does not keep the controller busy all the time. What changes meanwhile is one
// batch.
func (c *Controller) follow(ctx context.Context) error {
	for {
		keys := false
		select {
		case <-c.source.Changes():
		case <-c.authority.Changes():
		case <-c.enrolments.changed:
		case <-c.keys.Changes():
			keys = true
		case <-ctx.Done():
			return ctx.Err()
		}
		start := time.Now()
		c.publish(keys)
		for !c.state.backlog.empty() && ctx.Err() == nil {
			c.publish(false)
		}
		select {
		case <-time.After(min(time.Since(start), maxPause)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// publish takes in what has changed. If agents get something else by it, it becomes the state
// that they get. keys: the keys of tokens may have changed.
func (c *Controller) publish(keys bool) {
	start, asOf := time.Now(), c.source.AsOf()
	defer func() {
		if c.state.backlog.empty() { // otherwise not everything is in it
			c.asOf.Store(&asOf)
		}
		c.state.work.publications.Add(1)
		c.state.work.took.Add(int64(time.Since(start)))
	}()
	snap, statuses := c.advance(keys)
	if c.state.fresh || c.opt.Manifests != "" { // lines of files move without that
		c.state.fresh = false
		c.report.update(c.source, slices.Concat(c.state.problems, c.state.unkeyed), c.opt.Log)
	}
	last := c.server.Snapshot()
	if statuses || last == nil {
		c.writer.UpdateRoutes(c.source.Objects(), c.state.translator.Statuses())
	}
	if last != nil && last.Version() == snap.Version() {
		return
	}
	c.server.Publish(snap)
	level := slog.LevelDebug // in a cluster something always changes
	if last == nil {
		level = slog.LevelInfo
	}
	c.opt.Log.Log(context.Background(), level, "state published", "version", snap.Version(), "workloads", len(c.state.workloads),
		"took", time.Since(start).Round(time.Microsecond))
}

func (c *Controller) stop(front *server.Front) {
	c.opt.Log.Info("controller is stopping")
	c.serving.Store(false)
	c.health.Shutdown()
	c.server.Close()
	force := time.AfterFunc(stopTimeout, front.Stop)
	defer force.Stop()
	front.GracefulStop()
}
