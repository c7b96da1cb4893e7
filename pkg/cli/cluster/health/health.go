// Package health is `underlane check`. It checks whether Underlane can be installed
// in a cluster, whether an installation works, and whether the meshed pods are
// captured.
package health

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/cli/newest"
)

// Cluster is the access to a cluster that the checks need.
type Cluster interface {
	// SystemNamespace is the namespace of the installation.
	SystemNamespace() string
	// Clients returns clients of the API server. It does not connect.
	Clients() (kubernetes.Interface, dynamic.Interface, error)
	// NodeStatuses asks the agents of all nodes for their status. A node whose agent
	// does not answer is in the second map. When no agent could be asked, the first
	// map is empty and the second has one error with the key "".
	NodeStatuses(ctx context.Context) (map[string]*agentv1.StatusResponse, map[string]error)
}

// Command is `underlane check`, with Linkerd's flags and output.
func Command(cluster Cluster) *cobra.Command {
	var pre, proxy, versionCheck bool
	var output check.Output
	var namespace string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the cluster before installing, the installation, or the meshed pods",
		Example: `  underlane check --pre              # can Underlane be installed here?
  underlane check                    # is it well?
  underlane check --proxy -n shop    # are the labelled pods of namespace shop captured?`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pre && proxy {
				return errors.New("--pre and --proxy: one is for before the installation, the other for after it")
			}
			c := &checker{
				system: cluster.SystemNamespace(), namespace: namespace, wait: wait, now: time.Now, progress: io.Discard,
				connect: cluster.Clients, statuses: cluster.NodeStatuses,
			}
			if output.IsTable() {
				c.progress = cmd.ErrOrStderr()
			}
			categories := c.installation()
			switch {
			case pre:
				categories = c.before()
			case proxy:
				categories = append(categories, c.dataPlane()...)
			}
			if versionCheck {
				categories = append(releases(), categories...)
			}
			return output.Run(cmd.Context(), cmd.OutOrStdout(), categories)
		},
	}
	p := cmd.Flags()
	p.BoolVar(&pre, "pre", false, "check whether Underlane can be installed")
	p.BoolVar(&versionCheck, "version-check", true, "a release asks whether it is the newest of its channel ($"+newest.Variable+"=off: never)")
	p.BoolVar(&proxy, "proxy", false, "check the meshed pods too")
	p.StringVarP(&namespace, "namespace", "n", "", "with --proxy: check only pods of this namespace")
	output.AddFlag(p)
	p.DurationVar(&wait, "wait", 5*time.Minute, "how long to wait for what is still starting")
	return cmd
}

// checker runs checks. Later checks use the results of earlier ones. It finds out what checks
// of several categories need; the categories are in clusterChecks, installChecks and podChecks.
type checker struct {
	system    string // namespace of the installation
	namespace string // namespace of the pods to check; empty for all
	wait      time.Duration
	now       func() time.Time
	progress  io.Writer
	connect   func() (kubernetes.Interface, dynamic.Interface, error)
	statuses  func(context.Context) (map[string]*agentv1.StatusResponse, map[string]error)

	client kubernetes.Interface
	any    dynamic.Interface
	server *version.Info
	asked  bool // the agents were asked
	agents map[string]*agentv1.StatusResponse
	silent map[string]error
}

// clusterChecks look at the cluster: whether Underlane can be installed there, and what else
// redirects connections (kubernetes.go, nodes.go).
type clusterChecks struct{ *checker }

// installChecks look at the controller and the agents (control.go, identity.go).
type installChecks struct{ *checker }

// podChecks look at the labelled pods (pods.go).
type podChecks struct{ *checker }

// probe returns a check that calls run.
func probe(name, hint string, run func(context.Context) error) check.Probe {
	return check.Probe{Name: name, Hint: hint, Run: func(ctx context.Context) error {
		err := run(ctx)
		if apierrors.IsForbidden(err) {
			return check.Hinted(err, "you lack the right to look: ask for it, or have somebody check who has it")
		}
		return err
	}}
}

// fatal returns a check that ends the run when it fails, because the later checks
// need what it checks.
func fatal(name, hint string, run func(context.Context) error) check.Probe {
	p := probe(name, hint, run)
	p.Fatal = true
	return p
}

// patient repeats a failed check until it succeeds or the wait has passed.
func (c *checker) patient(run func(context.Context) error) func(context.Context) error {
	return patientFor(c.wait, c.progress, run)
}

func patientFor(limit time.Duration, progress io.Writer, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		last := run(ctx)
		if last == nil || limit <= 0 {
			return last
		}
		err := installation.Poll(ctx, limit, progress, func(ctx context.Context) (string, bool, error) {
			err := run(ctx)
			if err == nil {
				return "", true, nil
			}
			if ctx.Err() == nil { // otherwise err says only that the time has passed
				last = err
			}
			first, _, _ := strings.Cut(last.Error(), "\n")
			return "waiting: " + first, false, nil
		})
		if err != nil {
			return last
		}
		return nil
	}
}

// before returns the checks of --pre.
func (c *checker) before() []check.Category {
	k := &clusterChecks{c}
	return append(c.kubernetes(), k.setup(), k.nodes(), k.neighbours())
}

// installation returns the checks of an installation.
func (c *checker) installation() []check.Category {
	i := &installChecks{c}
	return append(c.kubernetes(), i.existence(), i.identity(), i.api(), i.agentProbes(), i.versionProbes(), i.highAvailability())
}

// dataPlane returns the additional checks of --proxy.
func (c *checker) dataPlane() []check.Category {
	p := &podChecks{c}
	return []check.Category{p.pods(), p.settings(), (&clusterChecks{c}).neighbours()}
}
