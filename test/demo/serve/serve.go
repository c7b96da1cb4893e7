// Package serve runs the demo's servers on both IP families until the context ends.
// Then it shuts them down gracefully, in a bounded time.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// grace is the time that active requests have when a server stops.
const grace = 2 * time.Second

// Listen listens on a TCP address such as ":8080": on [::] for both families, or only
// on IPv4 if the kernel has no IPv6.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (is the port taken?): %w", addr, err)
	}
	slog.Info("listening", "addr", ln.Addr().String())
	return ln, nil
}

// HTTP serves handler on ln until ctx ends.
func HTTP(ctx context.Context, ln net.Listener, handler http.Handler) error {
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return untilDone(ctx, func() error { return srv.Serve(ln) }, func() {
		stop, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			srv.Close()
		}
	})
}

// GRPC serves srv on ln until ctx ends.
func GRPC(ctx context.Context, ln net.Listener, srv *grpc.Server) error {
	return untilDone(ctx, func() error { return srv.Serve(ln) }, func() {
		cut := time.AfterFunc(grace, srv.Stop) // because a stream may never end by itself
		defer cut.Stop()
		srv.GracefulStop()
	})
}

// untilDone runs serve until it fails. When ctx ends, it calls stop, which makes serve
// return.
func untilDone(ctx context.Context, serve func() error, stop func()) error {
	failed := make(chan error, 1)
	go func() { failed <- serve() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	stop()
	if err := <-failed; err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// Dial returns a gRPC connection to addr in plaintext, as usual for applications in a
// mesh. Each attempt resolves the name again, and calls wait for the connection until
// their deadline, so services may start in any order.
func Dial(addr string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 2 * time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return conn, nil
}
