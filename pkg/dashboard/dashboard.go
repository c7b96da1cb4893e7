// Package dashboard serves the dashboard: the front end, which is built from web/ and
// embedded, and below /api/v1alpha1/ the API that its caller gives.
//
// The server has no passwords. It is for the person who started it, on this machine:
// Serve refuses a listener that is not on loopback, and Handler refuses requests that a
// page of another site makes (see guard).
package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// APIPrefix is where the API is mounted.
const APIPrefix = "/api/v1alpha1/"

// Config says what the dashboard shows.
type Config struct {
	// API answers requests below APIPrefix. It gets the path after the prefix with a
	// leading slash ("/figures"). It must not write secrets into headers: a browser
	// shows them.
	API   http.Handler
	About About
}

// About tells the front end what it looks at. It gets it as /about.json.
type About struct {
	// Where names what the figures are of: a cluster, a node, a lab.
	Where string `json:"where"`
	// Command is how a shell calls the program whose commands the views show:
	// "underlane", or "agent".
	Command string `json:"command"`
	// Scope is "cluster", or "node" where there is one agent and no controller.
	Scope string `json:"scope"`
	// Generated figures are of no real traffic. Every view says so.
	Generated bool   `json:"generated"`
	Version   string `json:"version,omitempty"`
}

// Handler returns the dashboard. Its error means that the embedded bundle is not whole.
func Handler(c Config) (http.Handler, error) {
	files, err := bundle()
	if err != nil {
		return nil, err
	}
	about, err := json.Marshal(c.About)
	if err != nil {
		return nil, fmt.Errorf("encode what the dashboard is about: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", files)
	mux.Handle("/about.json", newAsset("application/json", about))
	mux.Handle(APIPrefix, http.StripPrefix(APIPrefix[:len(APIPrefix)-1], api(c.API)))
	return guard(mux), nil
}

// api adds what is true of all answers of the API: no cache keeps them, and a browser
// takes them for nothing but data.
func api(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if next == nil {
			refuse(w, http.StatusNotFound, "NotFound", "this dashboard has no API: it was started without one")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Serve answers at l until ctx ends. It closes l. l must be on loopback.
func Serve(ctx context.Context, l net.Listener, c Config) error {
	defer l.Close()
	if addr, err := netip.ParseAddrPort(l.Addr().String()); err != nil || !addr.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("serve the dashboard at %v: it has no password and is for this machine only: use an address of loopback (127.0.0.1, ::1)", l.Addr())
	}
	handler, err := Handler(c)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// Streams end with ctx.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := context.AfterFunc(ctx, func() { server.Close() })
	defer stopped()
	if err := server.Serve(l); err != nil && !(errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil) {
		return fmt.Errorf("serve the dashboard at %v: %w", l.Addr(), err)
	}
	return nil
}
