package cluster

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/cli/cluster/installation"
	"github.com/underlane/underlane/pkg/cli/newest"
	"github.com/underlane/underlane/pkg/release"
)

// VersionCommand is `underlane version`.
func VersionCommand(f *Flags) *cobra.Command {
	var short, only, ask bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program, the controller and the agents",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			print := func(name, value string) {
				if short {
					fmt.Fprintln(out, value)
					return
				}
				fmt.Fprintf(out, "%s version: %s\n", name, value)
			}
			print("Client", version.Version)
			if ask {
				channel, err := newest.Of(cmd.Context(), cmp.Or(version.Channel, release.Stable))
				if err != nil {
					return err
				}
				print("Newest "+channel.Channel, channel.Newest)
			}
			if only {
				return nil
			}
			client, err := f.Client()
			if err != nil {
				return err
			}
			v, err := installation.ImageVersions(cmd.Context(), client, f.System)
			if err != nil {
				return err
			}
			print("Controller", v.Controller())
			print("Agent", v.Agent())
			return nil
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "print the version numbers only")
	cmd.Flags().BoolVar(&ask, "newest", false, "ask also which is the newest version of this program's channel")
	cmd.Flags().BoolVar(&only, "client", false, "print the version of this program only")
	return cmd
}
