// Command emojivote is the demo application. Each service is a subcommand. Without
// arguments it prints its usage.
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "emojivote",
		Short:         "A small application to mesh: vote for an emoji",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(webCommand(), emojiCommand(), votingCommand(), bannerCommand(), botCommand(), bannerClientCommand(), getCommand(), waitCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "emojivote:", err)
		os.Exit(1)
	}
}

// env returns the value of an environment variable, or fallback if it is empty.
func env(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
