// Package cli is what all command lines share: how a command runs, prints its
// error and ends. The commands are in its sub-packages: node for `agent`, cluster
// for `underlane`.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// ErrSilent makes Execute return 1 without a word: the command has said it.
var ErrSilent = errors.New("failed")

// Execute runs root until it is done or a signal (interrupt, terminate) ends
// its context, prints its error and returns the process's exit status.
func Execute(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root.SilenceErrors, root.SilenceUsage = true, true
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, ErrSilent):
		fmt.Fprintln(root.ErrOrStderr(), "Error:", err)
	}
	return 1
}
