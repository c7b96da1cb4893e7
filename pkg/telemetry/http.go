package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/underlane/underlane/pkg/listener/httpport"
)

// DefaultAddr is where the agent serves metrics and health.
const DefaultAddr = "0.0.0.0:4191"

// Handler serves /metrics, /live (the process runs) and /ready (503 with the
// reasons while the agent is not ready).
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", httpport.Cached(promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})))
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "live") })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if agent := m.options.Agent; agent != nil {
			if why := agent.NotReady(); len(why) > 0 {
				http.Error(w, "not ready\n"+strings.Join(why, "\n"), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// WriteText writes the content of /metrics to w.
func (m *Metrics) WriteText(w io.Writer) error {
	var text bytes.Buffer
	answer := &answer{head: http.Header{}, body: &text}
	promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}).ServeHTTP(answer, &http.Request{Header: http.Header{}})
	if answer.code >= http.StatusBadRequest {
		return errors.New(text.String())
	}
	_, err := text.WriteTo(w)
	return err
}

// answer is an http.ResponseWriter that keeps the response in memory.
type answer struct {
	head http.Header
	code int
	body io.Writer
}

func (a *answer) Header() http.Header         { return a.head }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// Listen opens the listener for Serve.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w: is the port taken? (--metrics-addr)", err)
	}
	return ln, nil
}

// Serve serves handler on ln until ctx ends, and closes ln. Clients must not exhaust the
// descriptors or the processor that the pods' traffic needs, and must not keep probes
// out: httpport bounds them.
func Serve(ctx context.Context, ln net.Listener, handler http.Handler) error {
	addr := ln.Addr()
	port := httpport.New()
	srv := port.Server(handler)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = srv.Close()
	})
	err := srv.Serve(port.Listen(ln))
	if stop() { // ctx has not ended
		return fmt.Errorf("serve metrics on %s: %w", addr, err)
	}
	<-closed
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics on %s: %w", addr, err)
	}
	return nil
}
