package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/demo/banner"
	"github.com/underlane/underlane/test/demo/bot"
)

func botCommand() *cobra.Command {
	var b bot.Bot
	cmd := &cobra.Command{
		Use: "vote-bot", Short: "Vote at a steady rate", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return b.Run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&b.Web, "web", env("WEB_URL", "http://web"), "URL of the front end ($WEB_URL)")
	cmd.Flags().Float64Var(&b.Rate, "rate", 20, "votes a second")
	return cmd
}

func bannerClientCommand() *cobra.Command {
	var within, timeout time.Duration
	cmd := &cobra.Command{
		Use: "banner-client [ADDR]", Short: "Visit the banner service once and print what it said as JSON, times in ns",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr := env("BANNER_ADDR", "banner:3306")
			if len(args) == 1 {
				addr = args[0]
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			report, err := banner.Visit(ctx, addr)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(cmd.OutOrStdout()).Encode(report); err != nil {
				return fmt.Errorf("write the report: %w", err)
			}
			if within > 0 && report.Answered > within {
				return fmt.Errorf("the answer took %v, more than %v", report.Answered, within)
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&within, "within", 0, "fail when the visit takes longer")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "give up after this time")
	return cmd
}

// getCommand makes a subcommand that requests a URL, so that the demo does not need
// curl.
func getCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "get URL", Short: "Print the answer to one HTTP request; fail unless it is 200", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
			if err != nil {
				return fmt.Errorf("make request: %w", err)
			}
			resp, err := new(http.Transport).RoundTrip(req) // ignores proxies in the environment, follows no redirects
			if err != nil {
				return fmt.Errorf("get %s: %w", args[0], err)
			}
			defer resp.Body.Close()
			if _, err := io.Copy(cmd.OutOrStdout(), resp.Body); err != nil {
				return fmt.Errorf("get %s: read answer: %w", args[0], err)
			}
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("get %s: %s", args[0], resp.Status)
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "give up after this time")
	return cmd
}

func waitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "wait", Short: "Do nothing until SIGTERM: a pod to run other commands in", Args: cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) { <-cmd.Context().Done() },
	}
}
