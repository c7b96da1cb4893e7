package controller

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/listener/httpport"
)

// web serves metrics, status and health over HTTP.
type web struct {
	listener net.Listener
	http     *http.Server
}

func newWeb(addr string, c *Controller) (*web, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", httpport.Cached(c.MetricsHandler()))
	mux.Handle("GET /status", httpport.Cached(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c.Status())
	})))
	alive := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if !c.serving.Load() {
			http.Error(w, "not serving yet: "+c.waitsFor(), http.StatusServiceUnavailable)
			return
		}
		alive(w, r)
	})
	// Callers must not use up the descriptors and the processor that agents need.
	port := httpport.New()
	return &web{listener: port.Listen(c.accepts.Patient(ln)), http: port.Server(mux)}, nil
}

// MetricsHandler returns the handler for the metrics of c.
func (c *Controller) MetricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{c}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func (w *web) serve() error { return w.http.Serve(w.listener) }

// Status is the state of a controller, which /status shows.
type Status struct {
	Version   uint64          `json:"version"` // of the published state
	AsOf      time.Time       `json:"asOf"`    // the state includes everything that the manifests or the API server had by then
	Serving   bool            `json:"serving"`
	Authority string          `json:"authorityProblem,omitempty"` // why the newest issuer cannot be used; the previous one stays in use
	Workloads int             `json:"workloads"`
	Agents    int             `json:"agents"`
	Behind    int             `json:"behind"`           // agents that lack something that they should have, or have not answered in time
	Manifests []watch.Problem `json:"manifestProblems"` // invalid files, and resources that cannot be watched; their last valid objects stay in use
	Objects   []ObjectProblem `json:"objectProblems"`   // values that are ignored
}

// Status returns the current state of c.
func (c *Controller) Status() Status {
	stats := c.server.Stats()
	objects, _ := c.report.get()
	var asOf time.Time
	if t := c.asOf.Load(); t != nil {
		asOf = *t
	}
	return Status{
		AsOf:    asOf,
		Serving: c.serving.Load(), Authority: c.authority.Problem(), Version: stats.Version, Workloads: stats.Workloads, Agents: stats.Agents, Behind: stats.Behind,
		Manifests: append([]watch.Problem{}, c.source.Problems()...),
		Objects:   append([]ObjectProblem{}, objects...),
	}
}

// waitsFor returns why the controller serves nothing yet.
func (c *Controller) waitsFor() string {
	for _, p := range c.source.Problems() {
		return p.String()
	}
	if p := c.authority.Problem(); p != "" {
		return p
	}
	return "the cluster's state is being read"
}
