// Command democheck checks the running demo and prints a table of the results. It
// exits with 0 if the mesh does what it promises.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/demo/selfcheck"
	"github.com/underlane/underlane/test/demo/selfcheck/wire"
)

// limit bounds the time of all checks together.
const limit = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "democheck:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var lab, uplink string
	cmd := &cobra.Command{
		Use: "democheck", Short: "Check the running demo", Args: cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			if lab == "" {
				lab = filepath.Join(filepath.Dir(self), "lab")
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), limit, fmt.Errorf("the checks took more than %v", limit))
			defer cancel()
			results, err := selfcheck.Run(ctx, selfcheck.Config{
				Lab: selfcheck.Lab{Command: strings.Fields(lab)}, Capture: self, Uplink: uplink,
				Times: selfcheck.DefaultTimes, Log: cmd.ErrOrStderr(),
			})
			good := selfcheck.Write(cmd.OutOrStdout(), results)
			if err == nil && !good {
				err = errors.New("the mesh does not do what it promises")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&lab, "lab", "", "the lab's command with its flags, as one word; empty: lab beside this program")
	cmd.Flags().StringVar(&uplink, "uplink", "eth0", "a node's interface to the other nodes")
	cmd.AddCommand(captureCommand())
	return cmd
}

func captureCommand() *cobra.Command {
	var name string
	var duration time.Duration
	cmd := &cobra.Command{
		Use: "capture", Short: "Write the frames of an interface to the output as pcap", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), duration)
			defer cancel()
			return wire.Capture(ctx, cmd.OutOrStdout(), name)
		},
	}
	cmd.Flags().StringVar(&name, "interface", "eth0", "interface of this network namespace")
	cmd.Flags().DurationVar(&duration, "duration", 3*time.Second, "how long")
	return cmd
}
