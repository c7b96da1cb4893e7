// Package cluster is the controller's platform in a Kubernetes cluster. It reads
// from the API server and writes to it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/agentauth"
	"github.com/underlane/underlane/pkg/controller/customclient"
	"github.com/underlane/underlane/pkg/controller/issuer"
	"github.com/underlane/underlane/pkg/controller/podstatus"
	"github.com/underlane/underlane/pkg/controller/routestatus"
	"github.com/underlane/underlane/pkg/controller/tapapi"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch/apiserver"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// Options select the cluster, and configure the controller's part in it.
type Options struct {
	Kubeconfig     string // path; "" uses the pod's service account
	Namespace      string // of controller and agents; "" stands for the pod's own
	ExternalIssuer bool   // the user provides the issuer's Secret: the controller never creates or changes it
	LeaderElection bool   // one of several replicas writes; without election this one does
	TapAddr        string // the address at which the API server calls the tap API; "" turns it off
	HistoryBytes   int    // what the controller remembers of the mesh's traffic may take; 0 turns it off
	HistoryFile    string // keeps that across restarts; "": nothing does

	// REST replaces Kubeconfig when it is not nil.
	REST *rest.Config
}

// namespaceFile contains the namespace of the pod.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

func (o *Options) namespace() string {
	if o.Namespace != "" {
		return o.Namespace
	}
	if text, err := os.ReadFile(namespaceFile); err == nil {
		return strings.TrimSpace(string(text))
	}
	return mesh.SystemNamespace
}

// config returns the client configuration for the API server.
func (o *Options) config() (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	switch {
	case o.REST != nil:
		return o.REST, nil
	case o.Kubeconfig != "":
		cfg, err = clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	default:
		cfg, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			err = errors.New("this is no pod of a cluster: name a --kubeconfig, or a directory of --manifests")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	cfg.UserAgent = "underlane-controller/" + version.Version
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	cfg.QPS, cfg.Burst = 50, 100
	return cfg, nil
}

// cluster is the platform of a Kubernetes cluster.
type cluster struct {
	tapAddr   string
	history   tapapi.History
	client    kubernetes.Interface
	namespace string
	objects   *apiserver.Cluster
	issuer    authority
	agents    *agentauth.Reviewer
	pods      *podstatus.Writer
	routes    *routestatus.Writer
	lease     *lease
}

// Open opens the platform of a cluster. controller.Options.Cluster is set to it.
func (o *Options) Open(opt controller.Options) (controller.Platform, error) {
	c, err := o.open(opt)
	if err != nil {
		return nil, err // not c: a nil *cluster would make a Platform that is not nil
	}
	return c, nil
}

func (o *Options) open(opt controller.Options) (*cluster, error) {
	cfg, err := o.config()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	unlimited := rest.CopyConfig(cfg)
	unlimited.QPS = -1 // Reviewer has limits of its own
	reviews, err := kubernetes.NewForConfig(unlimited)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	signer, err := ca.New(opt.TrustDomain)
	if err != nil {
		return nil, err
	}
	clients, err := customclient.New(cfg)
	if err != nil {
		return nil, err
	}
	namespace := o.namespace()
	c := &cluster{
		tapAddr: o.TapAddr, history: tapapi.History{Bytes: o.HistoryBytes, File: o.HistoryFile}, client: client, namespace: namespace, objects: apiserver.NewCluster(client, clients, opt.Log),
		issuer: authority{signer, issuer.New(issuer.Options{
			Client: client, Namespace: namespace, Authority: signer, External: o.ExternalIssuer, Log: opt.Log,
		})},
		routes: routestatus.New(clients, opt.Log),
	}
	c.agents = agentauth.New(reviews, namespace, c.objects.IsNodeAddr)
	c.pods = podstatus.New(client, c.objects, opt.Log)
	c.lease = &lease{
		client: client, namespace: namespace, elect: o.LeaderElection,
		tasks: []task{c.issuer.keeper.Lead, c.routes.Lead}, log: opt.Log,
	}
	return c, nil
}

// Source implements controller.Platform, as do the methods below.
func (c *cluster) Source() controller.Source { return c.objects }

func (c *cluster) Authority() controller.Authority { return c.issuer }

func (c *cluster) Writer() controller.Writer { return writer{c.pods, c} }

func (c *cluster) EnrolledFile() string { return "" }

func (c *cluster) Authenticate(ctx context.Context, node, token string) error {
	return c.agents.Authenticate(ctx, node, token)
}

func (c *cluster) HasNode(name string) bool { return c.objects.HasNode(name) }

// IsNodeAddr implements controller.Platform.
func (c *cluster) IsNodeAddr(addr netip.Addr) bool { return c.objects.IsNodeAddr(addr) }

func (c *cluster) Leader() (namespace, name string) {
	if name := c.lease.leader(); name != "" {
		return c.namespace, name
	}
	return "", ""
}

func (c *cluster) Ready(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{c.objects.Synced(), c.issuer.keeper.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *cluster) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.issuer.keeper.Run(ctx) })
	g.Go(func() error { return c.lease.run(ctx) })
	g.Go(func() error { return c.pods.Run(ctx) })
	return g.Wait()
}

func (c *cluster) OpenTap(of *controller.Controller) (controller.Tap, error) {
	if c.tapAddr == "" {
		return nil, nil
	}
	server, err := c.newTap(of)
	if err != nil {
		return nil, err
	}
	c.lease.tasks = append(c.lease.tasks, server.KeepCABundle)
	return server, nil
}

// authority is the certificate authority whose issuer a Keeper keeps in the
// cluster.
type authority struct {
	*ca.Authority
	keeper *issuer.Keeper
}

// Changes implements controller.Authority.
func (a authority) Changes() <-chan struct{} { return a.keeper.Changes() }

// Problem implements controller.Authority.
func (a authority) Problem() string { return a.keeper.Problem() }

// writer writes to the API server: annotations of pods, and the status of routes.
type writer struct {
	*podstatus.Writer
	c *cluster
}

// UpdateRoutes implements controller.Writer.
func (w writer) UpdateRoutes(o *translate.Objects, statuses []translate.RouteStatus) {
	w.c.routes.Update(o, statuses)
}

// Leading implements controller.Writer.
func (w writer) Leading() bool { return w.c.lease.leading.Load() }

// Writes implements controller.Writer.
func (w writer) Writes() (out controller.Writes) {
	out.Pods, out.PodsFailed = w.c.pods.Stats()
	out.Routes, out.RoutesFailed = w.c.routes.Stats()
	return out
}
