// Command agent is Underlane's node agent and its command line on the node.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/agent"
	"github.com/underlane/underlane/pkg/agent/confine"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/node"
	"github.com/underlane/underlane/pkg/cli/wait"
	"github.com/underlane/underlane/pkg/redirect"
)

func main() {
	root := &cobra.Command{
		Use:     "agent",
		Short:   "Underlane's node agent",
		Version: version.Version,
	}
	flags := node.AddFlags(root)
	root.AddCommand(runCommand(flags), wait.Command("agent"))
	root.AddCommand(node.Commands(flags, node.Kernel{
		Probes:  kernelProbes,
		Pins:    pinProbes,
		Cleanup: cleanup,
	})...)
	os.Exit(cli.Execute(root))
}

func runCommand(flags *node.Flags) *cobra.Command {
	var (
		config agent.Config
		file   string
	)
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent of this node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				if err := agent.ReadFile(file, cmd.Flags()); err != nil {
					return err
				}
			}
			var level slog.Level
			if err := level.UnmarshalText([]byte(config.LogLevel)); err != nil {
				return fmt.Errorf("--log-level: %w", err)
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			config.Socket, config.PinRoot, config.CgroupRoot, config.Confine = flags.Socket, flags.PinRoot, flags.CgroupRoot, confine.Process
			return agent.Run(cmd.Context(), config, log)
		},
	}
	config.Flags(cmd.Flags())
	cmd.Flags().StringVar(&file, "config", "", "YAML file of settings, named like these flags; a flag that is given wins")
	return cmd
}

func cleanup(_ context.Context, f *node.Flags) (removed []string, err error) {
	if removed, err = redirect.Pins(f.PinRoot); err != nil {
		return nil, err
	}
	return removed, redirect.Cleanup(f.PinRoot, f.CgroupRoot)
}
