package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/check"
)

// CheckCommand is `underlane check`, with Linkerd's flags and output.
func CheckCommand(f *ClusterFlags) *cobra.Command {
	var pre, proxy bool
	var output, namespace string
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
				system: f.System, namespace: namespace, wait: wait, now: time.Now, progress: io.Discard,
				connect: f.clients, statuses: f.NodeStatuses,
			}
			if output == "table" {
				c.progress = cmd.ErrOrStderr()
			}
			categories := c.installation()
			switch {
			case pre:
				categories = c.before()
			case proxy:
				categories = append(categories, c.dataPlane()...)
			}
			return report(cmd.Context(), categories, output, cmd.OutOrStdout())
		},
	}
	p := cmd.Flags()
	p.BoolVar(&pre, "pre", false, "check whether Underlane can be installed")
	p.BoolVar(&proxy, "proxy", false, "check the meshed pods too")
	p.StringVarP(&namespace, "namespace", "n", "", "with --proxy: check only pods of this namespace")
	p.StringVarP(&output, "output", "o", "table", "table, json or short (only what is wrong)")
	p.DurationVar(&wait, "wait", 5*time.Minute, "how long to wait for what is still starting")
	return cmd
}

func report(ctx context.Context, categories []check.Category, output string, out io.Writer) error {
	var r check.Report
	switch output {
	case "json":
		r = check.Run(ctx, categories, nil)
		if err := r.WriteJSON(out); err != nil {
			return err
		}
	case "table", "short":
		p := &check.Printer{Out: out, OnlyBad: output == "short"}
		r = check.Run(ctx, categories, p.Progress)
		p.Finish(r)
	default:
		return fmt.Errorf("output format %q: use table, json or short", output)
	}
	if !r.Success {
		return cli.ErrSilent
	}
	return nil
}

// checker runs checks; what one learns the later ones use.
type checker struct {
	system    string // namespace of the installation
	namespace string // of the pods to check, empty for all
	wait      time.Duration
	now       func() time.Time
	progress  io.Writer
	connect   func() (kubernetes.Interface, dynamic.Interface, error)
	statuses  func(context.Context) (map[string]*agentv1.StatusResponse, map[string]error)

	client kubernetes.Interface
	any    dynamic.Interface
	server *version.Info
	asked  bool // the agents
	agents map[string]*agentv1.StatusResponse
	silent map[string]error
}

func (f *ClusterFlags) clients() (kubernetes.Interface, dynamic.Interface, error) {
	client, err := f.Client()
	if err != nil {
		return nil, nil, err
	}
	dyn, err := f.Dynamic()
	return client, dyn, err
}

// probe is a check by a method.
func probe(name, hint string, run func(context.Context) error) check.Probe {
	return check.Probe{Name: name, Hint: hint, Run: func(ctx context.Context) error {
		err := run(ctx)
		if apierrors.IsForbidden(err) {
			return check.Hinted(err, "you lack the right to look: ask for it, or have somebody check who has it")
		}
		return err
	}}
}

// fatal is a check without which the others make no sense.
func fatal(name, hint string, run func(context.Context) error) check.Probe {
	p := probe(name, hint, run)
	p.Fatal = true
	return p
}

// patient waits for a check that may yet succeed.
func (c *checker) patient(run func(context.Context) error) func(context.Context) error {
	return patientFor(c.wait, c.progress, run)
}

func patientFor(limit time.Duration, progress io.Writer, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		last := run(ctx)
		if last == nil || limit <= 0 {
			return last
		}
		err := poll(ctx, limit, progress, func(ctx context.Context) (string, bool, error) {
			err := run(ctx)
			if err == nil {
				return "", true, nil
			}
			if ctx.Err() == nil { // else it says only that the time is over
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

// before are the checks of --pre.
func (c *checker) before() []check.Category {
	return append(c.kubernetes(), c.setup(), c.nodes(), c.neighbours())
}

// installation are the checks of an installation.
func (c *checker) installation() []check.Category {
	return append(c.kubernetes(), c.existence(), c.identity(), c.api(), c.agentProbes(), c.versionProbes(), c.highAvailability())
}

// dataPlane are the further checks of --proxy.
func (c *checker) dataPlane() []check.Category {
	return []check.Category{c.pods(), c.settings(), c.neighbours()}
}
