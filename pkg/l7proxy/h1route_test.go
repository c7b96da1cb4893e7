package l7proxy

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

func TestH1Routes(t *testing.T) {
	s := newShop(t)
	s.handler("apex", says("apex"))
	s.handler("blue", says("blue"))
	s.service("empty")
	blue := to("blue", 1)
	blue.Filters.RequestHeaders = &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "X-Ask", Value: "backend"}}}
	rule := func(path string, kind mesh.PathMatchKind, r mesh.RouteRule) mesh.RouteRule {
		r.Matches = []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: kind, Value: path}}}
		if r.Backends == nil {
			r.Backends = []mesh.RouteBackend{to("blue", 1)}
		}
		return r
	}
	s.route(
		rule("/blue", mesh.PathPrefix, mesh.RouteRule{}),
		rule("/edited", mesh.PathPrefix, mesh.RouteRule{
			Filters: mesh.RouteFilters{
				RequestHeaders:  &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "x-ask", Value: "rule"}}},
				ResponseHeaders: &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "X-From", Value: "route"}}, Add: []mesh.HeaderField{{Name: "X-Also", Value: "1"}}},
				Rewrite:         &mesh.RouteRewrite{Hostname: "new.example", Path: mesh.PathRewrite{Kind: mesh.PathReplacePrefix, Value: "/new"}},
			},
		}),
		rule("/backend", mesh.PathExact, mesh.RouteRule{Backends: []mesh.RouteBackend{blue}}),
		rule("/elsewhere", mesh.PathPrefix, mesh.RouteRule{Filters: mesh.RouteFilters{
			Redirect: &mesh.RouteRedirect{Status: 308, Hostname: "there.example", Port: 8443, Scheme: "https"},
		}}),
		rule("/none", mesh.PathExact, mesh.RouteRule{Backends: []mesh.RouteBackend{to("missing", 1)}}),
		rule("/invalid", mesh.PathExact, mesh.RouteRule{Backends: []mesh.RouteBackend{{Weight: 1, Invalid: "no such Service"}}}),
		rule("/empty", mesh.PathExact, mesh.RouteRule{Backends: []mesh.RouteBackend{to("empty", 1)}}),
		rule("/fault", mesh.PathExact, mesh.RouteRule{Filters: mesh.RouteFilters{Fault: &mesh.RouteFault{AbortStatus: 418}}}),
	)
	c := s.apex() // one connection for all of them
	for i, tt := range []struct {
		path   string
		status int
		body   string
		reason mesh.Reason
		fields map[string]string
	}{
		{"/blue/x?q", 200, "blue GET svc/blue/x?q client", 0, map[string]string{"X-From": "blue"}},
		{"/edited/x?q", 200, "blue GET new.example/new/x?q rule", 0, map[string]string{"X-From": "route", "X-Also": "1"}},
		{"/backend", 200, "blue GET svc/backend backend", 0, nil},
		{"/elsewhere/a", 308, "", 0, map[string]string{"Location": "https://there.example:8443/elsewhere/a"}},
		{"/nowhere", 404, "", mesh.ReasonNoRoute, nil},
		{"/none", 500, "", mesh.ReasonBadBackend, nil},
		{"/invalid", 500, "", mesh.ReasonBadBackend, nil},
		{"/empty", 503, "", mesh.ReasonNoEndpoints, nil},
		{"/fault", 418, "", mesh.ReasonFault, nil},
		{"/blue", 200, "blue GET svc/blue client", 0, nil},
	} {
		c.send("GET " + tt.path + " HTTP/1.1\r\nHost: svc\r\nX-Ask: client\r\n\r\n")
		resp, body := c.response("GET")
		if resp.StatusCode != tt.status || tt.body != "" && body != tt.body || resp.Header.Get("Underlane-Reason") != tt.reason.String() {
			t.Errorf("%s: %d %q %q", tt.path, resp.StatusCode, body, resp.Header.Get("Underlane-Reason"))
		}
		for name, want := range tt.fields {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", tt.path, name, got, want)
			}
		}
		ev := s.tap.Wait(t, tap.ResponseEnd, i)
		if ev.Status != tt.status || ev.Reason != tt.reason || (ev.Route != nil) != (tt.reason != mesh.ReasonNoRoute) {
			t.Errorf("%s: tap has status %d, reason %v, route %v", tt.path, ev.Status, ev.Reason, ev.Route)
		}
	}
	// A later route holds for the same connection.
	s.route()
	c.send("GET /nowhere HTTP/1.1\r\nHost: svc\r\n\r\n")
	if _, body := c.response("GET"); !strings.HasPrefix(body, "apex GET svc/nowhere") {
		t.Errorf("without rules: %q", body)
	}
}

func TestH1Weights(t *testing.T) {
	s := newShop(t)
	s.handler("apex", says("apex"))
	s.handler("blue", says("blue"))
	s.handler("green", says("green"))
	s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("blue", 9), to("green", 1), to("apex", 0)}})
	c := s.apex()
	got := map[string]int{}
	const n = 1000
	for range n {
		c.send("GET / HTTP/1.1\r\nHost: svc\r\n\r\n")
		resp, _ := c.response("GET")
		got[resp.Header.Get("X-From")]++
	}
	if got["blue"]+got["green"] != n || got["green"] < 50 || got["green"] > 160 { // 100 ± 9.5: more than five deviations
		t.Errorf("%v of %d, want nine to one", got, n)
	}
}

// TestH1Retries: what the policy lists goes to another endpoint, with its body,
// and not more often than it says.
func TestH1Retries(t *testing.T) {
	var bad, good atomic.Int64
	failing := serve(t, func(w http.ResponseWriter, r *http.Request) {
		bad.Add(1)
		if r.URL.Path == "/slow" {
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "busy")
	})
	working := serve(t, func(w http.ResponseWriter, r *http.Request) {
		good.Add(1)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	for name, tt := range map[string]struct {
		endpoints  []string
		retry      mesh.RouteRetry
		timeouts   mesh.RouteTimeouts
		path, body string
		later      string // the body goes on after a moment
		status     int
		want       string
		bad, good  int64
	}{
		"listed status":       {[]string{failing}, mesh.RouteRetry{Codes: []uint16{503}, Attempts: 2, Backoff: time.Millisecond}, mesh.RouteTimeouts{}, "/", "", "", 503, "busy", 3, 0},
		"another status":      {[]string{failing}, mesh.RouteRetry{Codes: []uint16{500}, Attempts: 2}, mesh.RouteTimeouts{}, "/", "", "", 503, "busy", 1, 0},
		"another endpoint":    {[]string{failing, working}, mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1, Backoff: time.Millisecond}, mesh.RouteTimeouts{}, "/", "hello", "", 200, "5", -1, 1},
		"a body that goes on": {[]string{failing, working}, mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1, Backoff: time.Millisecond}, mesh.RouteTimeouts{}, "/", "hello", strings.Repeat("x", 30<<10), 200, "30725", -1, 1},
		"backend time-out":    {[]string{failing, working}, mesh.RouteRetry{Attempts: 1, Backoff: time.Millisecond}, mesh.RouteTimeouts{BackendRequest: ample}, "/slow", "", "", 200, "0", -1, 1},
		"request time-out":    {[]string{failing}, mesh.RouteRetry{Attempts: 1, Backoff: time.Millisecond}, mesh.RouteTimeouts{Request: ample}, "/slow", "", "", 504, "", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bad.Store(0)
			good.Store(0)
			s := newShop(t)
			s.service("apex", tt.endpoints...)
			s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}, Retry: &tt.retry, Timeouts: tt.timeouts})
			for range 200 { // the first choice is a matter of luck
				c := s.apex()
				method := "GET"
				if tt.body != "" {
					method = "PUT"
				}
				c.send(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: svc\r\nContent-Length: %d\r\n\r\n%s", method, tt.path, len(tt.body)+len(tt.later), tt.body))
				if tt.later != "" {
					go func() {
						time.Sleep(50 * time.Millisecond)
						_, _ = io.WriteString(c.TCPConn, tt.later)
					}()
				}
				resp, body := c.response(method)
				if resp.StatusCode != tt.status || tt.want != "" && body != tt.want {
					t.Fatalf("%d %q %s", resp.StatusCode, body, resp.Header.Get("Underlane-Reason"))
				}
				if tt.bad >= 0 && (bad.Load() != tt.bad || good.Load() != tt.good) {
					t.Errorf("%d attempts failed and %d were answered; want %d and %d", bad.Load(), good.Load(), tt.bad, tt.good)
				}
				if ev := s.tap.Wait(t, tap.ResponseEnd, 0); tt.bad > 0 && ev.Retries != int(tt.bad)-1 && tt.status != 504 {
					t.Errorf("tap has %d retries", ev.Retries)
				}
				if tt.bad >= 0 || bad.Load() > 0 {
					return
				}
			}
			t.Error("the failing endpoint was never the first choice")
		})
	}
}

// TestH1RetryBudget: a service that is down gets few requests more than its
// clients make.
func TestH1RetryBudget(t *testing.T) {
	var attempts atomic.Int64
	s := newShop(t)
	s.handler("apex", func(w http.ResponseWriter, _ *http.Request) {
		attempts.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	})
	s.route(mesh.RouteRule{
		Backends: []mesh.RouteBackend{to("apex", 1)},
		Retry:    &mesh.RouteRetry{Codes: []uint16{502}, Attempts: 3, Backoff: time.Microsecond},
	})
	c := s.apex()
	const n = 1000
	began := time.Now()
	for range n {
		c.send("GET / HTTP/1.1\r\nHost: svc\r\n\r\n")
		c.response("GET")
	}
	// A fifth of all, and ten a second besides.
	most := n + n/4 + 10*int64(time.Since(began)/time.Second+1)
	if got := attempts.Load(); got <= n || got > most {
		t.Errorf("%d attempts for %d requests, want some more and at most %d", got, n, most)
	}
	if s.proxy.RetriesRefused() == 0 {
		t.Error("what was refused is not counted")
	}
}

// TestH1Mirror: every request is copied whole, and the copy's server, slow as it
// is, holds nobody up.
func TestH1Mirror(t *testing.T) {
	s := newShop(t)
	s.handler("apex", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	copies := make(chan string, 10)
	release := make(chan struct{})
	s.handler("shadow", func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		copies <- fmt.Sprint(r.Method, " ", r.Host, r.URL, " ", len(body))
		<-release
	})
	answer := sync.OnceFunc(func() { close(release) })
	defer answer()
	rule := mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}
	rule.Filters.Mirrors = []mesh.RouteMirror{
		{Service: mesh.ServicePortRef{Namespace: "shop", Name: "shadow", Port: 80}},
		{Service: mesh.ServicePortRef{Namespace: "shop", Name: "nobody", Port: 80}},
	}
	s.route(rule)
	c := s.apex()
	began := time.Now()
	c.send("POST /whole HTTP/1.1\r\nHost: svc\r\nContent-Length: 5\r\n\r\nhello")
	c.response("POST")
	c.send("POST /later HTTP/1.1\r\nHost: svc\r\nContent-Length: 40000\r\n\r\nhello")
	time.Sleep(20 * time.Millisecond)
	c.send(strings.Repeat("x", 39995))
	if _, body := c.response("POST"); body != "40000" {
		t.Errorf("the request itself: %q", body)
	}
	if took := time.Since(began); took > request.MirrorTimeout/2 { // after which a copy is given up
		t.Errorf("two requests took %v: the copies hold them up", took)
	}
	copied := map[string]bool{<-copies: true, <-copies: true} // before the first is answered: each has a connection of its own
	if want := map[string]bool{"POST svc/whole 5": true, "POST svc/later 40000": true}; !maps.Equal(copied, want) {
		t.Errorf("copies %v, want %v", copied, want)
	}
	answer()
	c.send("POST /large HTTP/1.1\r\nHost: svc\r\nContent-Length: 100000\r\n\r\n")
	c.send(strings.Repeat("x", 100000))
	c.response("POST")
	proxytest.Eventually(t, "three copies to nobody, and one that is too large, are counted as dropped", func() bool {
		return s.proxy.MirrorsDropped() == 4
	})
	proxytest.Eventually(t, "the copies' connections are kept for others", func() bool {
		return s.proxy.upstream.Stats().IdleHTTP1 == 3
	})
}
