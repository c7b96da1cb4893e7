package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// serveHealth serves the gRPC health service, for probes of that kind.
func serveHealth(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	defer context.AfterFunc(ctx, s.Stop)()
	fmt.Println("grpc health listening on", l.Addr())
	return s.Serve(l)
}

// readiness answers 200 or 503, as set by /ready/on and /ready/off.
type readiness struct{ off atomic.Bool }

func (r *readiness) register(mux *http.ServeMux) {
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if r.off.Load() {
			http.Error(w, "told not to be", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/ready/on", func(http.ResponseWriter, *http.Request) { r.off.Store(false) })
	mux.HandleFunc("/ready/off", func(http.ResponseWriter, *http.Request) { r.off.Store(true) })
}
