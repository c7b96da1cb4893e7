package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// shopRoutes: the Service web has pods of two versions, and a Service each.
const shopRoutes = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {shop: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v1}
spec: {selector: {version: v1}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v2}
spec: {selector: {version: v2}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
    - name: by-header
      matches: [{path: {value: /who}, headers: [{name: version, value: v2}]}]
      backendRefs: [{name: web-v2, port: 80}]
    - name: moved
      matches: [{path: {value: /old}}]
      filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}}]
    - name: split
      matches: [{path: {value: /who}}]
      filters:
        - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-route, value: split}]}}
      backendRefs: [{name: web-v1, port: 80, weight: 3}, {name: web-v2, port: 80, weight: 1}]
---
apiVersion: v1
kind: Service
metadata: {name: linkerd}
spec: {selector: {shop: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: core, kind: Service, name: linkerd, port: 80}]
  rules:
    - name: newest
      matches: [{path: {value: /who}}]
      backendRefs: [{name: web-v2, port: 80}]
`

// TestRoutes: requests to a Service go by its HTTPRoute, whatever the node of
// the pods, and tap and metrics say by which rule.
func TestRoutes(t *testing.T) {
	t.Parallel()
	version := func(name, node, version string) podSpec {
		p := serverPod(name, node)
		p.Labels = merge(p.Labels, map[string]string{"shop": "web", "version": version})
		return p
	}
	l := upL7(t, version("v1-near", node1, "v1"), version("v1-far", node2, "v1"), version("v2-far", node2, "v2"))
	l.Apply(shopRoutes)
	waitEnrolled(t, l.Lab, "default/v1-near", "default/v1-far", "default/v2-far")
	base := "http://" + addrPort(l.ServiceIPs("default/web")[0], 80)
	moved := strings.TrimSuffix(base, ":80") + "/new/a?b"
	tap := startTap(t, l.Lab, node1)
	byHeader := 0
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[http2], func(t *testing.T) {
			client := l.client(t, http2)
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			get := func(path, version string) *http.Response {
				t.Helper()
				req, err := http.NewRequest("GET", base+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if version != "" {
					req.Header.Set("Version", version)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp
			}
			l.Eventually(patience, func() error { // the agent hears of the route at its first use
				if resp := get("/nowhere", ""); resp.StatusCode != 404 || resp.Header.Get("Underlane-Reason") != "no-route" {
					return fmt.Errorf("/nowhere: %s %s", resp.Status, resp.Header.Get("Underlane-Reason"))
				}
				return nil
			})
			if resp := get("/old/a?b", ""); resp.StatusCode != 301 || resp.Header.Get("Location") != moved {
				t.Errorf("/old: %s to %s, want %s", resp.Status, resp.Header.Get("Location"), moved)
			}
			// An endpoint that was slow once, on a busy machine, is left alone for
			// some seconds.
			l.Eventually(patience, func() error {
				seen := map[string]int{}
				for range 200 {
					req, _ := http.NewRequest("GET", base+"/who", nil)
					a := do(t, client, req)
					seen[a.Hostname]++
					req, _ = http.NewRequest("GET", base+"/who", nil)
					req.Header.Set("Version", "v2")
					if a := do(t, client, req); a.Hostname != "v2-far" {
						t.Fatalf("with the header: sent to %s", a.Hostname)
					}
					byHeader++
				}
				if v1 := seen["v1-near"] + seen["v1-far"]; v1 < 110 || v1 > 185 { // by chance once in billions
					t.Errorf("%v: want three of four at v1", seen)
				}
				if seen["v1-near"] == 0 || seen["v1-far"] == 0 {
					return fmt.Errorf("%v: want v1 of both nodes", seen)
				}
				return nil
			})
			if resp := get("/who", ""); resp.Header.Get("X-Route") != "split" {
				t.Errorf("the response has x-route %q", resp.Header.Get("X-Route"))
			}
			e := tap.wait("a request by the rule split", func(e event) bool {
				return e.ResponseEndEvent != nil && e.RouteMeta["route_rule"] == "split"
			})
			if e.RouteMeta["route"] != "web" || e.RouteMeta["route_kind"] != "HTTPRoute" || e.RouteMeta["service"] != "web" {
				t.Errorf("tap: %v", e.RouteMeta)
			}

			// One of Linkerd's own, of the same name.
			linkerds := "http://" + addrPort(l.ServiceIPs("default/linkerd")[0], 80)
			l.Eventually(patience, func() error {
				req, _ := http.NewRequest("GET", linkerds+"/nowhere", nil)
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				resp.Body.Close()
				if resp.StatusCode != 404 || resp.Header.Get("Underlane-Reason") != "no-route" {
					return fmt.Errorf("/nowhere: %s %s", resp.Status, resp.Header.Get("Underlane-Reason"))
				}
				return nil
			})
			for range 20 {
				req, _ := http.NewRequest("GET", linkerds+"/who", nil)
				if a := do(t, client, req); a.Hostname != "v2-far" {
					t.Fatalf("by Linkerd's route: sent to %s", a.Hostname)
				}
			}
			tap.wait("a request by the rule newest", func(e event) bool {
				return e.ResponseEndEvent != nil && e.RouteMeta["route_rule"] == "newest" && e.RouteMeta["route_kind"] == "HTTPRoute.policy.linkerd.io" && e.RouteMeta["service"] == "linkerd"
			})
		})
	}
	l.Eventually(patience, func() error {
		m := metrics(t, l.Lab, node1)
		if n := metric(m, "route_response_total", "rt_route=web", "rt_rule=by-header", "classification=success"); n != float64(byHeader) {
			return fmt.Errorf("route_response_total of by-header is %v, want %d", n, byHeader)
		}
		return nil
	})
}
