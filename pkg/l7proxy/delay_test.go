package l7proxy

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestH1Delay: a fault's delay ends with the request's time limit, and when the client
// leaves. TestH2Delay is the same of HTTP/2.
func TestH1Delay(t *testing.T) {
	s := newShop(t)
	s.handler("apex", says("apex"))
	never := mesh.RouteRule{
		Filters:  mesh.RouteFilters{Fault: &mesh.RouteFault{Delay: 5 * time.Minute, DelayShare: mesh.Fraction{Numerator: 1, Denominator: 1}}},
		Backends: []mesh.RouteBackend{to("apex", 1)},
	}
	limited := never
	limited.Timeouts.Request = 200 * time.Millisecond
	s.route(pathRule("/limited", mesh.PathExact, limited), pathRule("/never", mesh.PathExact, never))
	c := s.apex()
	c.send("GET /limited HTTP/1.1\r\nHost: svc\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != 504 || resp.Header.Get("underlane-reason") != "timeout" {
		t.Errorf("with a time limit: %d %v, want 504, timeout", resp.StatusCode, resp.Header)
	}
	// Nothing tells that the proxy has read the request and waits: the client gives it more
	// time from one try to the next.
	for wait := 20 * time.Millisecond; ; wait *= 4 {
		c = s.apex()
		c.send("GET /never HTTP/1.1\r\nHost: svc\r\n\r\n")
		time.Sleep(wait)
		_ = c.SetLinger(0)
		c.Close()
		ended := func() bool { return s.tap.Count(tap.ResponseEnd, mesh.ReasonClientReset) > 0 }
		for range 50 {
			if ended() {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		if wait > 5*time.Second {
			t.Fatal("the client has left, and the delay goes on")
		}
	}
}

// TestMirrorWithoutEndpoint: a copy is made also of a request for which there is no endpoint.
func TestMirrorWithoutEndpoint(t *testing.T) {
	for _, protocol := range []string{"HTTP/1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			s := newShop(t)
			copies := make(chan string, 1)
			shadow := func(_ http.ResponseWriter, r *http.Request) { copies <- fmt.Sprint(r.Proto, " ", r.URL) }
			s.service("apex")
			rule := mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}
			rule.Filters.Mirrors = shadows("shadow")
			status, want := 0, "HTTP/1.1 /x"
			if protocol == "HTTP/1" {
				s.handler("shadow", shadow)
				s.route(rule)
				c := s.apex()
				c.send("GET /x HTTP/1.1\r\nHost: svc\r\n\r\n")
				resp, _ := c.response("GET")
				status = resp.StatusCode
			} else {
				s.h2handler(t, "shadow", shadow)
				s.route(rule)
				resp, _ := s.h2apex().do("GET", "/x", nil)
				status, want = resp.StatusCode, "HTTP/2.0 /x"
			}
			if status != 503 {
				t.Errorf("answered %d, want 503", status)
			}
			select {
			case got := <-copies:
				if got != want {
					t.Errorf("copied as %q, want %q", got, want)
				}
			case <-time.After(30 * time.Second):
				t.Error("no copy came")
			}
		})
	}
}
