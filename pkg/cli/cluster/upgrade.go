package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/release"
)

// UpgradeCommand is `underlane upgrade`. It renders the manifests of this version
// with the values of the installation. Values in the command override them.
func UpgradeCommand(f *Flags) *cobra.Command {
	var values valueFlags
	var apply applyFlags
	var reset, skip bool
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Print the manifests that bring an installation to this version, or apply them",
		Long: `Print the manifests that bring an installation to this version, or apply them.
What was set at the installation is kept (ConfigMap underlane-config); flags
change it. The CA and its certificates stay.`,
		Example: `  underlane upgrade | kubectl apply -f -
  underlane upgrade --apply --set agent.resources.limits.memory=4Gi`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			client, err := f.Client()
			if err != nil {
				return err
			}
			kept, err := installed(ctx, client, f.System)
			if err != nil {
				return err
			}
			if !skip {
				if err := sequence(ctx, client, f.System); err != nil {
					return err
				}
			}
			if reset {
				kept = map[string]any{}
			}
			if values.keyFile != "" { // new keys replace an existing issuer
				kept = chart.Merge(kept, map[string]any{"identity": map[string]any{"issuer": map[string]any{"existing": false}}})
			}
			overrides, err := values.values(kept, cmd.InOrStdin())
			if err != nil {
				return err
			}
			// The trust domain is in every certificate. Pods with the old trust
			// domain and pods with the new one would refuse each other.
			if d, err := client.AppsV1().Deployments(f.System).Get(ctx, installation.Controller, metav1.GetOptions{}); err == nil && len(d.Spec.Template.Spec.Containers) > 0 {
				if err := sameTrustDomain(d.Spec.Template.Spec.Containers[0].Args, overrides); err != nil {
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
	_ = cmd.Flags().MarkHidden("ignore-cluster") // an upgrade needs a cluster
	cmd.Flags().BoolVar(&skip, "allow-skip", false, "upgrade although it skips a version: agents and controllers that run meanwhile may not understand each other")
	cmd.Flags().BoolVar(&reset, "reset-values", false, "forget what was set at the installation")
	return cmd
}

// sequence returns an error if the pods that run must not be replaced by those of this
// version in one step.
func sequence(ctx context.Context, client kubernetes.Interface, namespace string) error {
	running, err := installation.ImageVersions(ctx, client, namespace)
	if err != nil {
		return err
	}
	for _, from := range slices.Sorted(maps.Keys(joined(running.Controllers, running.Agents))) {
		if err := release.CheckUpgrade(from, version.Version); err != nil {
			return fmt.Errorf("%w; docs/versions.md says more, --allow-skip does it all the same", err)
		}
	}
	return nil
}

func joined(a, b map[string]int) map[string]int {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

func sameTrustDomain(args []string, overrides map[string]any) error {
	next, _ := overrides["trustDomain"].(string)
	if next == "" {
		next = mesh.DefaultTrustDomain
	}
	for _, a := range args {
		if now, ok := strings.CutPrefix(a, "--trust-domain="); ok && now != next {
			return fmt.Errorf("the installation has the trust domain %q, not %q: changing it cuts meshed pods off from each other; uninstall and install instead", now, next)
		}
	}
	return nil
}
