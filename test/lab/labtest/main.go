// Command labtest has all servers and clients that tests run in pods of the lab.
// A server prints one line when it listens and ends on SIGTERM. A client prints
// what it saw and exits with 1 on a failure.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "labtest",
		Short:         "Servers and clients for tests on the lab",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		httpServer(), files(), echoServer(), bannerServer(), sinkServer(), allServers(),
		bridge(), get(), dial(), send(), hold(), wait(), knock(), session(), slow(), pieces(), play(), urgent(), oneSource(), authorizer(),
		resolver(), forge(), ask(),
	)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "labtest:", err)
		os.Exit(1)
	}
}

func wait() *cobra.Command {
	return &cobra.Command{
		Use: "wait", Short: "Do nothing until SIGTERM: a client pod", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { <-cmd.Context().Done() },
	}
}
