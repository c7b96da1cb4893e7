package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/cli/newest"
	"github.com/underlane/underlane/pkg/release"
)

// applyFlags select whether the rendered objects are printed or applied, and how.
type applyFlags struct {
	apply         bool
	output        string
	wait          time.Duration
	ignoreCluster bool
}

func (a *applyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&a.apply, "apply", false, "apply to the cluster (server-side) and wait until it runs, instead of printing")
	f.StringVarP(&a.output, "output", "o", "yaml", "yaml or json")
	f.DurationVar(&a.wait, "wait", 5*time.Minute, "with --apply: how long to wait until everything runs; 0 does not wait")
	f.BoolVar(&a.ignoreCluster, "ignore-cluster", false, "do not look at the cluster")
}

// InstallCommand is `underlane install`.
func InstallCommand(f *Flags) *cobra.Command {
	var values valueFlags
	var apply applyFlags
	var channel string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Print the manifests that install Underlane, or apply them",
		Example: `  underlane install | kubectl apply -f -
  underlane install --apply --ha
  underlane install --set agent.resources.limits.memory=4Gi -f my-values.yaml > underlane.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if channel != "" {
				if err := isNewest(ctx, channel); err != nil {
					return err
				}
			}
			overrides, err := values.values(map[string]any{}, cmd.InOrStdin())
			if err != nil {
				return err
			}
			if !apply.ignoreCluster {
				if err := f.notInstalled(ctx, apply.apply, cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			objects, err := manifests(ctx, f.System, overrides)
			if err != nil {
				return err
			}
			return apply.deliver(ctx, f, objects, cli.Raw(cmd.OutOrStdout()), cmd.ErrOrStderr())
		},
	}
	values.add(cmd.Flags())
	apply.add(cmd)
	cmd.Flags().StringVar(&channel, "channel", "", "stable or edge: go on only if this program is the newest of that channel")
	return cmd
}

// isNewest returns an error unless this program is the newest of the channel. A program
// installs its own version, because chart and images belong together.
func isNewest(ctx context.Context, channel string) error {
	if channel != release.Stable && channel != release.Edge {
		return fmt.Errorf("--channel %s: there are %s and %s", channel, release.Stable, release.Edge)
	}
	c, err := newest.Of(ctx, channel)
	if err != nil {
		return err
	}
	if c.Newest != version.Version {
		return fmt.Errorf("this program is %s, and installs that; the newest of the channel %s is %s: %s", version.Version, channel, c.Newest, newest.Hint(channel))
	}
	return nil
}

// notInstalled returns an error when the cluster already has an installation.
// Without a configured cluster the manifests are still printed.
func (f *Flags) notInstalled(ctx context.Context, apply bool, errw io.Writer) error {
	client, err := f.Client()
	if err != nil {
		if !apply && f.Kubeconfig == "" && clientcmd.IsEmptyConfig(errors.Unwrap(err)) {
			fmt.Fprintln(errw, "no cluster is configured: printing without a look at one (--ignore-cluster)")
			return nil
		}
		return err
	}
	_, err = client.AppsV1().Deployments(f.System).Get(ctx, installation.Controller, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("look whether Underlane is installed: %w: is the cluster reachable? --ignore-cluster does without", err)
	}
	return fmt.Errorf("namespace %s has Underlane already: use `underlane upgrade`, or --ignore-cluster to print anyway", f.System)
}

// manifests returns the chart's objects and the record of overrides, which an
// upgrade reads.
func manifests(ctx context.Context, namespace string, overrides map[string]any) ([]chart.Object, error) {
	objects, err := chart.Render(ctx, namespace, chart.Merge(InstallDefaults(), overrides))
	if err != nil {
		return nil, err
	}
	record, err := configMap(namespace, overrides)
	if err != nil {
		return nil, err
	}
	return chart.Sort(append(objects, record)), nil
}

func (a *applyFlags) deliver(ctx context.Context, f *Flags, objects []chart.Object, out, errw io.Writer) error {
	if a.apply {
		return f.apply(ctx, objects, a.wait, errw)
	}
	return write(out, objects, a.output)
}

func write(out io.Writer, objects []chart.Object, format string) error {
	var text []byte
	switch format {
	case "yaml":
		text = chart.YAML(objects)
	case "json":
		var err error
		if text, err = chart.JSON(objects); err != nil {
			return err
		}
	default:
		return fmt.Errorf("output format %q: use yaml or json", format)
	}
	_, err := out.Write(text)
	return err
}
