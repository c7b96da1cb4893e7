package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/controller/agentauth"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/issuer"
	"github.com/underlane/underlane/pkg/controller/podstatus"
	"github.com/underlane/underlane/pkg/controller/routestatus"
	"github.com/underlane/underlane/pkg/controller/tapapi"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// ClusterOptions say which cluster it is, and which part of it the controller is.
type ClusterOptions struct {
	Kubeconfig     string // path; "" is that of the pod's service account
	Namespace      string // of controller and agents; "" is the pod's own
	ExternalIssuer bool   // the issuer's Secret is the user's: never made or changed
	LeaderElection bool   // of several replicas one writes; without, this one does
	TapAddr        string // the API server calls the tap API here; "" is off

	// REST is used in place of Kubeconfig when it is not nil.
	REST *rest.Config
}

// namespaceFile names the pod's namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

func (o *ClusterOptions) namespace() string {
	if o.Namespace != "" {
		return o.Namespace
	}
	if text, err := os.ReadFile(namespaceFile); err == nil {
		return strings.TrimSpace(string(text))
	}
	return mesh.SystemNamespace
}

// config is how to talk to the API server.
func (o *ClusterOptions) config() (*rest.Config, error) {
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

// cluster is the backend of a Kubernetes cluster.
type cluster struct {
	client    kubernetes.Interface
	namespace string
	objects   *watch.Cluster
	issuer    clusterAuthority
	agents    *agentauth.Reviewer
	pods      *podstatus.Writer
	routes    *routestatus.Writer
	lease     *lease
}

// openCluster opens the backend of a cluster.
func openCluster(opt Options) (backend, error) {
	cfg, err := opt.Cluster.config()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	authority, err := ca.New(opt.TrustDomain)
	if err != nil {
		return nil, err
	}
	clients, err := custom.NewClients(cfg)
	if err != nil {
		return nil, err
	}
	namespace := opt.Cluster.namespace()
	c := &cluster{
		client: client, namespace: namespace, objects: watch.NewCluster(client, clients, opt.Log),
		issuer: clusterAuthority{authority, issuer.New(issuer.Options{
			Client: client, Namespace: namespace, Authority: authority, External: opt.Cluster.ExternalIssuer, Log: opt.Log,
		})},
		agents: agentauth.New(client, namespace),
		routes: routestatus.New(clients, opt.Log),
	}
	c.pods = podstatus.New(client, c.objects, opt.Log)
	c.lease = &lease{
		client: client, namespace: namespace, elect: opt.Cluster.LeaderElection,
		tasks: []task{c.issuer.keeper.Lead, c.routes.Lead}, log: opt.Log,
	}
	return c, nil
}

func (c *cluster) source() Source       { return c.objects }
func (c *cluster) authority() Authority { return c.issuer }
func (c *cluster) writer() Writer       { return clusterWriter{c.pods, c} }
func (c *cluster) enrolledFile() string { return "" }

func (c *cluster) authenticate(ctx context.Context, node, token string) error {
	return c.agents.Authenticate(ctx, node, token)
}

func (c *cluster) hasNode(name string) bool { return c.objects.HasNode(name) }

func (c *cluster) ready(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{c.objects.Synced(), c.issuer.keeper.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *cluster) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.issuer.keeper.Run(ctx) })
	g.Go(func() error { return c.lease.run(ctx) })
	g.Go(func() error { return c.pods.Run(ctx) })
	return g.Wait()
}

func (c *cluster) openTap(of *Controller) (*tapapi.Server, error) {
	if of.opt.Cluster.TapAddr == "" {
		return nil, nil
	}
	server, err := of.newTap(c.client, c.issuer.Authority, c.namespace, c.objects)
	if err == nil {
		c.lease.tasks = append(c.lease.tasks, server.KeepCABundle)
	}
	return server, err
}

// clusterAuthority is the authority whose issuer a Keeper keeps in the cluster.
type clusterAuthority struct {
	*ca.Authority
	keeper *issuer.Keeper
}

// Changes implements Authority.
func (a clusterAuthority) Changes() <-chan struct{} { return a.keeper.Changes() }

// Problem implements Authority.
func (a clusterAuthority) Problem() string { return a.keeper.Problem() }

// clusterWriter writes to the API server: annotations on pods, and the status of
// routes.
type clusterWriter struct {
	*podstatus.Writer
	c *cluster
}

// UpdateRoutes implements Writer.
func (w clusterWriter) UpdateRoutes(o *translate.Objects, statuses []translate.RouteStatus) {
	w.c.routes.Update(o, statuses)
}

// Leading implements Writer.
func (w clusterWriter) Leading() bool { return w.c.lease.leading.Load() }

// Writes implements Writer.
func (w clusterWriter) Writes() (out Writes) {
	out.Pods, out.PodsFailed = w.c.pods.Stats()
	out.Routes, out.RoutesFailed = w.c.routes.Stats()
	return out
}
