// Package cluster has the commands of `underlane`. With them a user works with a
// mesh from outside its nodes, over the Kubernetes API and with the user's own
// permissions. The node's own commands are in pkg/cli/node. The agent never links
// this package.
package cluster

import (
	"cmp"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

// Flags are the settings that all commands share: the cluster, the user, and the
// namespace of Underlane.
type Flags struct {
	Kubeconfig string   // --kubeconfig; empty: $KUBECONFIG, ~/.kube/config, or in a pod its service account
	Context    string   // --context of the kubeconfig; empty: the current one
	System     string   // --underlane-namespace
	As         string   // --as: user to impersonate
	AsGroups   []string // --as-group
	Verbose    bool     // --verbose: requests to the API server on standard error
}

// AddFlags defines the shared flags on f.
func AddFlags(f *pflag.FlagSet) *Flags {
	c := &Flags{}
	f.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig file (default $KUBECONFIG or ~/.kube/config)")
	f.StringVar(&c.Context, "context", "", "context of the kubeconfig (default its current one)")
	f.StringVarP(&c.System, "underlane-namespace", "L", cmp.Or(os.Getenv("UNDERLANE_NAMESPACE"), installation.DefaultNamespace),
		"namespace that Underlane is installed in ($UNDERLANE_NAMESPACE)")
	f.StringVar(&c.As, "as", "", "user to impersonate")
	f.StringSliceVar(&c.AsGroups, "as-group", nil, "group to impersonate (repeatable)")
	f.BoolVar(&c.Verbose, "verbose", false, "show the requests to the API server on standard error")
	return c
}

func (c *Flags) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{
		CurrentContext: c.Context,
		AuthInfo:       api.AuthInfo{Impersonate: c.As, ImpersonateGroups: c.AsGroups},
	})
}

// RESTConfig returns the client configuration for the API server. It does not
// connect.
func (c *Flags) RESTConfig() (*rest.Config, error) {
	config, err := c.loader().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster to talk to: %w: give --kubeconfig, or set KUBECONFIG", err)
	}
	config.UserAgent = "underlane/" + version.Version
	// A command makes many requests at once and then ends. The client's default of 5
	// requests a second would only make the user wait. The API server has its own
	// limits.
	config.QPS, config.Burst = 50, 100
	if c.Verbose {
		config.Wrap(transport.DebugWrappers)
	}
	return config, nil
}

// Client returns a client of the API server. It does not connect.
func (c *Flags) Client() (kubernetes.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Dynamic returns a client for objects of any kind. It does not connect.
func (c *Flags) Dynamic() (dynamic.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	return dynamic.NewForConfig(config)
}

// Namespace returns the namespace for a command's -n flag: named, or the namespace
// of the kubeconfig's context when named is empty.
func (c *Flags) Namespace(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	namespace, _, err := c.loader().Namespace()
	if err != nil {
		return "", fmt.Errorf("namespace of the current context: %w", err)
	}
	return namespace, nil
}

// Clients returns both clients. It does not connect.
func (c *Flags) Clients() (kubernetes.Interface, dynamic.Interface, error) {
	client, err := c.Client()
	if err != nil {
		return nil, nil, err
	}
	dyn, err := c.Dynamic()
	return client, dyn, err
}

// SystemNamespace returns the namespace of the installation.
func (c *Flags) SystemNamespace() string { return c.System }
