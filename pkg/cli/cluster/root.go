package cluster

import (
	"github.com/spf13/cobra"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/cluster/health"
	"github.com/underlane/underlane/pkg/cli/wait"
)

// Command is the root of the command line. display is the name with which the user
// calls it: underlane, or kubectl underlane.
func Command(display string) *cobra.Command {
	root := &cobra.Command{
		Use:   "underlane",
		Short: "Underlane, a service mesh without sidecars",
		Long: `Underlane, a service mesh without sidecars.

  underlane check --pre                   can this cluster carry it?
  underlane install --apply               install it
  kubectl label ns shop underlane.io/mesh=enabled
  underlane check --proxy                 is everything that is labelled captured?
  underlane tap -n shop deploy/web        watch requests
  underlane dashboard                     see all of it in a browser`,
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: display},
	}
	flags := AddFlags(root.PersistentFlags())
	root.AddCommand(
		InstallCommand(flags), UpgradeCommand(flags), UninstallCommand(flags), VersionCommand(flags), VerifyCommand(),
		health.Command(flags), MeshCommand(), UnmeshCommand(), wait.Command("underlane"),
	)
	root.AddCommand(TapCommands(flags)...)
	root.AddCommand(StatCommands(flags)...)
	root.AddCommand(DashboardCommand(flags))
	return root
}
