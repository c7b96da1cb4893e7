package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilversion "k8s.io/apimachinery/pkg/util/version"

	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
)

// minKubernetes is the first version that includes the node in service account
// tokens. The controller identifies agents by it.
var minKubernetes = utilversion.MustParseGeneric("1.30.0")

func (c *checker) kubernetes() []check.Category {
	return []check.Category{
		{Name: "kubernetes-api", Probes: []check.Probe{
			fatal("can initialize the client", "give --kubeconfig, or set KUBECONFIG", func(context.Context) (err error) {
				c.client, c.any, err = c.connect()
				return err
			}),
			fatal("can query the Kubernetes API", "is the API server of this kubeconfig's context reachable, and your login valid? try kubectl version", func(context.Context) (err error) {
				c.server, err = c.client.Discovery().ServerVersion()
				return err
			}),
		}},
		{Name: "kubernetes-version", Probes: []check.Probe{
			probe("is running the minimum Kubernetes API version", "upgrade the cluster", func(context.Context) error {
				v, err := utilversion.ParseGeneric(c.server.GitVersion)
				if err != nil {
					return fmt.Errorf("version of the API server: %w", err)
				}
				if v.LessThan(minKubernetes) {
					return fmt.Errorf("the cluster is on version %s, but version %s or more recent is required", v, minKubernetes)
				}
				return nil
			}),
		}},
	}
}

func (c *clusterChecks) setup() check.Category {
	const ask = "ask for the ClusterRole cluster-admin, or have somebody install who has it"
	probes := []check.Probe{
		probe("control plane namespace does not already exist", "`underlane check` looks at an installation; `underlane uninstall` removes one", func(ctx context.Context) error {
			_, err := c.client.CoreV1().Namespaces().Get(ctx, c.system, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				return nil
			case err != nil:
				return err
			}
			if _, err := c.client.AppsV1().Deployments(c.system).Get(ctx, installation.Controller, metav1.GetOptions{}); apierrors.IsNotFound(err) {
				return check.Warn(fmt.Errorf("the namespace %q exists, without Underlane in it", c.system))
			}
			return fmt.Errorf("the namespace %q exists, with Underlane in it", c.system)
		}),
		probe("can create non-namespaced resources", ask, func(ctx context.Context) error {
			return errors.Join(
				c.may(ctx, "create", "", "namespaces", ""),
				c.may(ctx, "create", "rbac.authorization.k8s.io", "clusterroles", ""),
				c.may(ctx, "create", "rbac.authorization.k8s.io", "clusterrolebindings", ""),
				c.may(ctx, "create", "apiregistration.k8s.io", "apiservices", ""),
			)
		}),
	}
	for _, k := range []struct{ name, group string }{
		{"ServiceAccounts", ""},
		{"Services", ""},
		{"Deployments", "apps"},
		{"DaemonSets", "apps"},
		{"ConfigMaps", ""},
		{"Secrets", ""},
		{"Roles", "rbac.authorization.k8s.io"},
		{"PodDisruptionBudgets", "policy"},
	} {
		probes = append(probes, probe("can create "+k.name, ask, func(ctx context.Context) error {
			return c.may(ctx, "create", k.group, strings.ToLower(k.name), c.system)
		}))
	}
	probes = append(probes,
		probe("can read Secrets", ask, func(ctx context.Context) error { return c.may(ctx, "get", "", "secrets", c.system) }),
		probe("can read extension-apiserver-authentication configmap", "the API server makes it: does it run with --requestheader-client-ca-file?", func(ctx context.Context) error {
			m, err := c.client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if m.Data["requestheader-client-ca-file"] == "" {
				return errors.New("there is no requestheader-client-ca-file in it: the API server's aggregation layer is off, and tap would not work")
			}
			return nil
		}),
		probe("no clock skew detected", "synchronise the clocks (NTP): certificates are valid from a moment on", c.clocks),
	)
	return check.Category{Name: "pre-kubernetes-setup", Probes: probes}
}

// may returns an error unless the caller is allowed to do something.
func (c *clusterChecks) may(ctx context.Context, verb, group, resource, namespace string) error {
	r, err := c.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: group, Resource: resource, Namespace: namespace,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if !r.Status.Allowed {
		return fmt.Errorf("not authorized to %s %s: %s", verb, resource, strings.TrimSpace(r.Status.Reason+" "+r.Status.EvaluationError))
	}
	return nil
}

const (
	clockAhead  = 5 * time.Second  // the most by which a lease may be in the future
	clockBehind = 60 * time.Second // kubelets renew their leases every ten seconds
)

// clocks compares the nodes' clocks with the local clock. It uses the leases that
// the kubelets renew.
func (c *clusterChecks) clocks(ctx context.Context) error {
	nodes, err := c.readyNodes(ctx)
	if err != nil {
		return err
	}
	leases, err := c.client.CoordinationV1().Leases("kube-node-lease").List(ctx, metav1.ListOptions{})
	if err != nil {
		return check.Warn(fmt.Errorf("the nodes' leases cannot be read: %w", err))
	}
	renewed := map[string]time.Time{}
	for i := range leases.Items {
		if t := leases.Items[i].Spec.RenewTime; t != nil {
			renewed[leases.Items[i].Name] = t.Time
		}
	}
	var bad []string
	for _, n := range nodes {
		t, ok := renewed[n.Name]
		if !ok {
			continue
		}
		if ahead := t.Sub(c.now()); ahead > clockAhead {
			bad = append(bad, fmt.Sprintf("the clock of node %s is ahead of this computer's by %s or more", n.Name, ahead.Round(time.Second)))
		} else if -ahead > clockBehind {
			bad = append(bad, fmt.Sprintf("the clock of node %s is behind this computer's by about %s", n.Name, (-ahead).Round(time.Second)))
		}
	}
	return check.Lines(bad)
}
