// Package controller is the control plane put together: it reads Kubernetes
// objects from a source, translates them, streams the result to the agents,
// and is the mesh's certificate authority.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/routestatus"
	"github.com/underlane/underlane/pkg/controller/tapapi"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// Defaults of Options.
const (
	DefaultDataDir          = "/var/lib/underlane"
	DefaultListen           = ":8443"
	DefaultMetricsAddr      = "0.0.0.0:4192"
	DefaultTrustDomain      = "cluster.local"
	DefaultWorkloadLifetime = 24 * time.Hour
	DefaultNodeLifetime     = 24 * time.Hour
)

const (
	stopTimeout = 5 * time.Second
	maxPause    = time.Second // between two translations, however long one takes
)

// Options configure a Controller. With Manifests it reads a directory, and keeps
// its keys in DataDir; otherwise it asks the API server of a cluster.
type Options struct {
	Manifests string // directory of Kubernetes manifests
	DataDir   string // with Manifests: keys, and anchors.pem for the agents
	Cluster   ClusterOptions

	Listen           string // agents connect here
	MetricsAddr      string // Prometheus metrics, health and status over HTTP; "" is off
	TrustDomain      string
	WorkloadLifetime time.Duration // of workload certificates
	NodeLifetime     time.Duration // of node certificates
	Log              *slog.Logger
}

// Source is where Kubernetes objects come from.
type Source interface {
	// Run keeps the source current until ctx ends.
	Run(ctx context.Context) error
	// Objects returns the newest objects; they are never changed.
	Objects() *translate.Objects
	// AsOf is a time: what the source had learnt by then is in Objects.
	AsOf() time.Time
	// Changes receives after Objects or Problems changed.
	Changes() <-chan struct{}
	// Problems returns what cannot be used now, and Failures how many
	// problems there were.
	Problems() []watch.Problem
	Failures() uint64
	// Origin returns where an object was read from, "" if not known.
	Origin(kind, namespace, name string) string
}

// Authority is the certificate authority.
type Authority interface {
	server.Authority
	Issuer() (ca.Issuer, bool)
}

// backend is what differs between a directory of manifests and a cluster.
type backend struct {
	kind         string // of the source's problems, in metrics
	source       Source
	authority    Authority
	authenticate func(ctx context.Context, node, token string) error
	nodeExists   func(node string) bool          // nil: any may
	observer     server.Observer                 // may be nil
	enrolled     string                          // file that keeps which pods were enrolled; "": something else does
	ready        []<-chan struct{}               // closed when there is something to serve; nothing is before
	changes      <-chan struct{}                 // receives after the authority changed
	problem      func() string                   // with the authority; "" for none
	leading      func() bool                     // whether this replica writes
	statuses     func() (written, failed uint64) // annotations on pods
	routes       *routestatus.Writer             // nil: nobody reads the status of routes
	run          []func(ctx context.Context) error
	// openTap opens the API through which people hear the agents; nil for none.
	openTap func(*Controller) (*tapapi.Server, error)
}

// Controller is a control plane.
type Controller struct {
	backend
	opt      Options
	server   *server.Server
	health   *health.Server
	accepts  *listener.Group // of all ports: running out of descriptors ends none
	listener net.Listener
	web      *web                         // nil when off
	tap      *tapapi.Server               // nil when off
	front    atomic.Pointer[server.Front] // nil before there is something to serve
	serving  atomic.Bool

	latest atomic.Pointer[translate.Result] // what was published
	asOf   atomic.Pointer[time.Time]        // of what was published
	report report

	enrolments *enrolments
}

// New opens what a controller needs: the authority (made at first start), the
// source of objects and the listeners. It serves nothing before Run. Close
// releases the listeners of a Controller that is never run.
func New(opt Options) (*Controller, error) {
	if opt.WorkloadLifetime <= 0 || opt.NodeLifetime <= 0 {
		return nil, fmt.Errorf("lifetimes of certificates must be above zero: workload %s, node %s", opt.WorkloadLifetime, opt.NodeLifetime)
	}
	open := openCluster
	if opt.Manifests != "" {
		open = openFiles
	}
	p, err := open(opt)
	if err != nil {
		return nil, err
	}
	enrolments, err := newEnrolments(p.observer, p.enrolled, opt.Log)
	if err != nil {
		return nil, err
	}
	accepts := &listener.Group{Log: opt.Log}
	ln, err := net.Listen("tcp", opt.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for agents: %w", err)
	}
	c := &Controller{
		backend: p, opt: opt, accepts: accepts, listener: accepts.Patient(ln), health: health.NewServer(), enrolments: enrolments,
		server: server.New(server.Options{
			Authority: p.authority, Authenticate: p.authenticate, NodeExists: p.nodeExists, Observer: enrolments,
			NodeLifetime: opt.NodeLifetime, WorkloadLifetime: opt.WorkloadLifetime, Log: opt.Log,
		}),
	}
	if opt.MetricsAddr != "" {
		c.web, err = newWeb(opt.MetricsAddr, c)
	}
	if err == nil && p.openTap != nil {
		c.tap, err = p.openTap(c)
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

// Addr is where agents connect.
func (c *Controller) Addr() net.Addr { return c.listener.Addr() }

// MetricsAddr is where metrics are served, nil when they are not.
func (c *Controller) MetricsAddr() net.Addr {
	if c.web == nil {
		return nil
	}
	return c.web.listener.Addr()
}

// Run serves until ctx ends, then stops gracefully and returns nil; it returns
// an error when something that it needs fails.
func (c *Controller) Run(ctx context.Context) error {
	defer c.Close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.source.Run(ctx) })
	for _, run := range c.run {
		g.Go(func() error { return run(ctx) })
	}
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

// serve waits until there is something to serve, and then does until ctx ends.
func (c *Controller) serve(ctx context.Context) error {
	for _, ready := range c.ready {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	names, ips := servingNames(c.opt.Listen)
	tls, err := server.TLSConfig(c.authority, names, ips)
	if err != nil {
		return err
	}
	front := server.NewFront(tls, func(r grpc.ServiceRegistrar) {
		c.server.Register(r)
		healthpb.RegisterHealthServer(r, c.health)
	})
	c.front.Store(front)
	c.publish()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.follow(ctx) })
	g.Go(func() error { return front.Serve(c.listener) })
	g.Go(func() error {
		<-ctx.Done()
		c.stop(front)
		return ctx.Err()
	})
	c.serving.Store(true)
	c.opt.Log.Info("controller is serving", "agents", c.Addr().String(), "trustDomain", c.opt.TrustDomain)
	return g.Wait()
}

// follow publishes whenever the source or the trust bundle changed. What takes
// long is not done all the time: as much time passes without.
func (c *Controller) follow(ctx context.Context) error {
	for {
		select {
		case <-c.source.Changes():
		case <-c.changes:
		case <-c.enrolments.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		start := time.Now()
		c.publish()
		select {
		case <-time.After(min(time.Since(start), maxPause)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// publish translates the newest objects and, when the result is new, makes it
// what agents get.
func (c *Controller) publish() {
	start, asOf := time.Now(), c.source.AsOf()
	defer func() { c.asOf.Store(&asOf) }()
	objects := c.source.Objects()
	result := translate.Translate(objects, c.opt.TrustDomain)
	c.enrolments.mark(result.Workloads)
	c.latest.Store(&result)
	c.report.update(c.source, result.Problems, c.opt.Log)
	if c.routes != nil {
		c.routes.Update(objects, result.RouteStatuses)
	}
	last, version := c.server.Snapshot(), uint64(1)
	if last != nil {
		version = last.Version() + 1
	}
	snap := server.NewSnapshot(version, server.Content{
		Workloads: result.Workloads, Services: result.Services, Routes: result.Routes, Anchors: c.anchors(),
	}, last)
	if snap.Equal(last) {
		return
	}
	c.server.Publish(snap)
	level := slog.LevelDebug // in a cluster something always changes
	if version == 1 {
		level = slog.LevelInfo
	}
	c.opt.Log.Log(context.Background(), level, "state published", "version", version, "workloads", len(result.Workloads),
		"services", len(result.Services), "routes", len(result.Routes), "took", time.Since(start).Round(time.Microsecond))
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
