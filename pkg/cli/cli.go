// Package cli has the code that all command lines share: it runs a command, prints
// its error and returns its exit status. The commands are in the sub-packages: node
// for `agent`, cluster for `underlane`.
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

// ErrSilent makes Execute return 1 without printing an error, because the command
// has already reported it.
var ErrSilent = errors.New("failed")

// Execute runs root until it returns. A signal (interrupt, terminate) cancels its
// context. Execute prints the command's error and returns the exit status of the
// process. What the command writes to its output and to its error output goes through
// Terminal.
func Execute(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root.SetOut(Terminal(os.Stdout))
	root.SetErr(Terminal(os.Stderr))
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
