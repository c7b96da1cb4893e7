// Command peer is what runs in the pods of the contract: a server that writes down what
// arrives and says which pod it is, and a client that makes attempts and prints what
// became of each.
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
	root := &cobra.Command{Use: "peer", Short: "Server and client of the contract", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(serveCommand(), callCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

// Ports of the server.
const (
	httpPort = 8080
	tcpPort  = 7000
)

// answer is what the server answers to an attempt.
type answer struct {
	ID  string `json:"id"`  // of the attempt
	Pod string `json:"pod"` // host name
	Run string `json:"run"` // of this program
}
