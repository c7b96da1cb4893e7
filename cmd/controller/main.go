// Command controller is Underlane's control plane: it turns Kubernetes objects
// into the state that node agents work from, and signs their certificates.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/underlane/underlane/pkg/controller"
)

func main() {
	controller.SettleMemory()
	controller.SettleProcessors()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go controller.PaceCollection(ctx)
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}
