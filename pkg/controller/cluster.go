package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

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
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
)

// ClusterOptions say which cluster, and who we are in it.
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

// openCluster opens the backend of a cluster.
func openCluster(opt Options) (backend, error) {
	cfg, err := opt.Cluster.config()
	if err != nil {
		return backend{}, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return backend{}, fmt.Errorf("API server: %w", err)
	}
	authority, err := ca.New(opt.TrustDomain)
	if err != nil {
		return backend{}, err
	}
	namespace := opt.Cluster.namespace()
	clients, err := custom.NewClients(cfg)
	if err != nil {
		return backend{}, err
	}
	source := watch.NewCluster(client, clients, opt.Log)
	keeper := issuer.New(issuer.Options{
		Client: client, Namespace: namespace, Authority: authority, External: opt.Cluster.ExternalIssuer, Log: opt.Log,
	})
	statuses := podstatus.New(client, source, opt.Log)
	routes := routestatus.New(clients, opt.Log)
	l := &lease{client: client, namespace: namespace, elect: opt.Cluster.LeaderElection, tasks: []task{keeper.Lead, routes.Lead}, log: opt.Log}
	b := backend{
		kind: "resource", source: source, authority: authority, authenticate: agentauth.New(client, namespace).Authenticate, nodeExists: source.HasNode, observer: statuses,
		ready: []<-chan struct{}{source.Synced(), keeper.Ready()}, changes: keeper.Changes(), problem: keeper.Problem,
		leading: l.leading.Load, statuses: statuses.Stats, routes: routes,
		run: []func(context.Context) error{keeper.Run, l.run, statuses.Run},
	}
	if opt.Cluster.TapAddr != "" {
		b.openTap = func(c *Controller) (*tapapi.Server, error) {
			server, err := c.newTap(client, authority, namespace, source)
			if err == nil {
				l.tasks = append(l.tasks, server.KeepCABundle)
			}
			return server, err
		}
	}
	return b, nil
}
