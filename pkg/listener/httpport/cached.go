package httpport

import (
	"bytes"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Cached returns a handler that uses a response of next again for the time Fresh, and calls
// next for one request at a time. Reading metrics then costs the same, however many do it.
//
// The handler passes on of a request only its path, and whether it accepts gzip and
// OpenMetrics. Requests over loopback, which are the node's own, always get a new response.
func Cached(next http.Handler) http.Handler {
	return &cached{next: next, responses: map[variant]*response{}}
}

type cached struct {
	next http.Handler

	mu        sync.Mutex // also held while next runs
	responses map[variant]*response
}

// variant is what the handler distinguishes in a request.
type variant struct{ openMetrics, gzip bool }

const openMetrics = "application/openmetrics-text"

func variantOf(r *http.Request) variant {
	return variant{
		openMetrics: strings.Contains(r.Header.Get("Accept"), openMetrics),
		gzip:        strings.Contains(r.Header.Get("Accept-Encoding"), "gzip"),
	}
}

// request returns the request that next gets.
func (v variant) request(r *http.Request) *http.Request {
	clone := r.Clone(r.Context())
	clone.URL.RawQuery = ""
	clone.Method = http.MethodGet
	clone.Header = http.Header{"Accept": {"text/plain;version=0.0.4"}}
	if v.openMetrics {
		clone.Header.Set("Accept", openMetrics+";version=1.0.0")
	}
	if v.gzip {
		clone.Header.Set("Accept-Encoding", "gzip")
	}
	return clone
}

// response is an http.ResponseWriter that keeps a response. It is not changed any more
// when next has returned.
type response struct {
	at     time.Time
	code   int
	header http.Header
	body   bytes.Buffer
}

func (r *response) Header() http.Header         { return r.header }
func (r *response) WriteHeader(code int)        { r.code = code }
func (r *response) Write(p []byte) (int, error) { return r.body.Write(p) }

func (c *cached) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kept := c.response(variantOf(r), r, source(r))
	maps.Copy(w.Header(), kept.header)
	w.Header().Set("Content-Length", strconv.Itoa(kept.body.Len()))
	w.WriteHeader(kept.code)
	_, _ = w.Write(kept.body.Bytes())
}

func (c *cached) response(v variant, r *http.Request, from netip.Addr) *response {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.responses[v]
	if kept == nil || time.Since(kept.at) >= Fresh || from.IsLoopback() {
		kept = &response{code: http.StatusOK, header: http.Header{}}
		c.next.ServeHTTP(kept, v.request(r))
		kept.at = time.Now()
		c.responses[v] = kept
	}
	return kept
}
