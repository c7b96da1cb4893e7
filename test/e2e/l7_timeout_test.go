package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const limitedService = `
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {limited: NAME}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME}
spec:
  parentRefs: [{group: "", kind: Service, name: NAME, port: 80}]
  rules:
  - matches: [{path: {value: /delay}}]
    timeouts: {request: 500ms}
    backendRefs: [{name: NAME, port: 80}]
  - matches: [{path: {value: /status}}]
    backendRefs: [{name: NAME, port: 80}]
`

// TestRouteTimeouts: an answer that comes too late costs its own connection at
// most. No endpoint is ejected by it, and the others' connections are used again.
func TestRouteTimeouts(t *testing.T) {
	limited := func(name, node, service string) podSpec {
		p := serverPod(name, node)
		p.Labels = merge(p.Labels, map[string]string{"limited": service})
		return p
	}
	l := upL7(t, limited("here-1", node1, "here"), limited("here-2", node1, "here"),
		limited("there-1", node2, "there"), limited("there-2", node2, "there"))
	for _, service := range []string{"here", "there"} {
		l.Apply(strings.ReplaceAll(limitedService, "NAME", service))
	}
	waitEnrolled(t, l.Lab, "default/here-1", "default/here-2", "default/there-1", "default/there-2")
	for _, service := range []string{"here", "there"} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", service, http2), func(t *testing.T) {
				client := l.client(t, http2)
				base := "http://" + addrPort(l.ServiceIPs("default/" + service)[0], 80)
				connections := map[string]uint64{} // that each pod has accepted
				fast := func() (made uint64) {
					for range 20 {
						req, _ := http.NewRequest("GET", base+"/status/200", nil)
						a := do(t, client, req)
						if was := connections[a.Hostname]; a.Connection > was {
							made += a.Connection - was
							connections[a.Hostname] = a.Connection
						}
					}
					return made
				}
				l.Eventually(patience, func() error { // the agent hears of the route at its first use
					resp, err := client.Get(base + "/nowhere")
					if err != nil {
						return err
					}
					resp.Body.Close()
					if resp.StatusCode != http.StatusNotFound || resp.Header.Get("Underlane-Reason") != "no-route" {
						return fmt.Errorf("/nowhere: %s", resp.Status)
					}
					return nil
				})
				for range 3 {
					fast()
				}
				const slow = 5
				for range slow {
					resp, err := client.Get(base + "/delay/1m")
					if err != nil {
						t.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusGatewayTimeout || resp.Header.Get("Underlane-Reason") != "timeout" {
						t.Errorf("%s %s", resp.Status, resp.Header.Get("Underlane-Reason"))
					}
				}
				if made := fast(); made > slow {
					t.Errorf("%d connections were made after %d time-outs", made, slow)
				}
				if n := ejections(t, l, "unreachable"); n > 0 {
					t.Errorf("%v endpoints were ejected", n)
				}
			})
		}
	}
}
