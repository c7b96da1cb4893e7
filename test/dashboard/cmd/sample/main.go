// Command sample serves the dashboard with generated data, for who works on it and for
// its tests in a browser.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/underlane/underlane/pkg/dashboard"
	"github.com/underlane/underlane/test/dashboard/sample"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8084", "address to listen at")
	workloads := flag.Int("workloads", 1000, "workloads beside the demo's")
	seed := flag.Uint64("seed", 1, "of the generated data")
	perNamespace := flag.Int("per-namespace", 25, "workloads of a namespace")
	speed := flag.Float64("speed", 1, "how many seconds pass in one")
	narrow := flag.Bool("narrow", false, "the namespace legacy may be seen by its own path only")
	young := flag.Bool("young", false, "the agent of one node has started a moment ago")
	hostile := flag.Bool("hostile", false, "give some workloads names that are markup")
	flag.Parse()
	if err := run(*addr, sample.Options{
		Seed: *seed, Workloads: *workloads, PerNamespace: *perNamespace, Hostile: *hostile, Narrow: *narrow, Young: *young, Speed: *speed, Now: clock(*speed),
	}); err != nil {
		fmt.Fprintln(os.Stderr, "sample:", err)
		os.Exit(1)
	}
}

// clock is one that begins now and runs at speed.
func clock(speed float64) func() time.Time {
	began := time.Now()
	return func() time.Time {
		return began.Add(time.Duration(speed * float64(time.Since(began))))
	}
}

func run(addr string, o sample.Options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen at %s: %w", addr, err)
	}
	fmt.Printf("http://%s\n", l.Addr())
	var api http.Handler = sample.New(o).Handler()
	return dashboard.Serve(ctx, l, dashboard.Config{API: api, About: dashboard.About{
		Where: "generated data", Command: "underlane", Scope: "cluster", Generated: true, Version: "sample",
	}})
}
