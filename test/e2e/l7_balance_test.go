package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// webService has three endpoints on two nodes.
const webService = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {tier: web}
  ports:
    - {name: http, port: 80, targetPort: 8080}
    - {name: grpc, port: 81, targetPort: 9001}
`

func webPod(name, node string) podSpec {
	p := serverPod(name, node)
	p.Labels = merge(p.Labels, map[string]string{"tier": "web"})
	return p
}

// TestBalancing: the requests of one connection are spread over the endpoints
// of a service, and leave an endpoint that is not one any more.
func TestBalancing(t *testing.T) {
	l := upL7(t, webPod("web-1", node1), webPod("web-2", node2), webPod("web-3", node2))
	l.Apply(webService)
	waitEnrolled(t, l.Lab, "default/web-1", "default/web-2", "default/web-3")
	for _, pod := range []string{"web-1", "web-2", "web-3"} {
		serveGRPC(t, l, pod, 9001)
	}
	vip := l.ServiceIPs("default/web")[0]
	url := "http://" + addrPort(vip, 80) + "/who"
	askHTTP := func(http2 bool) func(*testing.T) string {
		client := l.client(t, http2)
		client.Transport.(*http.Transport).MaxConnsPerHost = 1
		return func(t *testing.T) string {
			req, err := http.NewRequest("GET", url, nil)
			if err != nil {
				t.Fatal(err)
			}
			return do(t, client, req).Hostname
		}
	}
	conn := dialGRPC(t, l, addrPort(vip, 81))
	protocols := []struct {
		name, port string
		ask        func(*testing.T) string
	}{
		{"HTTP/1.1", "80", askHTTP(false)},
		{"HTTP/2", "80", askHTTP(true)},
		{"gRPC", "81", func(t *testing.T) string {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var header metadata.MD
			if _, err := conn.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.Header(&header), grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
			return strings.Join(header.Get("x-server"), ",")
		}},
	}
	count := func(t *testing.T, ask func(*testing.T) string, n int) map[string]int {
		seen := map[string]int{}
		for range n {
			seen[ask(t)]++
		}
		return seen
	}
	l.Eventually(patience, func() error { // the agent hears of the service at its first use
		if seen := count(t, protocols[0].ask, 30); len(seen) != 3 {
			return fmt.Errorf("answers from %v", seen)
		}
		return nil
	})
	tap := startTap(t, l.Lab, node1)
	before := metrics(t, l.Lab, node1)
	opened := func(s []sample) float64 {
		return metric(s, "tcp_open_total", "direction=outbound", "peer=src")
	}
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			// An endpoint that was slow once, on a busy machine, is left alone for
			// some seconds.
			l.Eventually(patience, func() error {
				seen := count(t, p.ask, 150)
				for _, pod := range []string{"web-1", "web-2", "web-3"} {
					if seen[pod] < 20 { // of 50 expected; by chance once in millions
						return fmt.Errorf("requests went to %v", seen)
					}
				}
				return nil
			})
		})
	}
	after := metrics(t, l.Lab, node1)
	for pod, tls := range map[string]string{"web-1": "same-node", "web-2": "true", "web-3": "true"} {
		e := tap.wait("a request to "+pod, func(e event) bool {
			return e.ResponseEndEvent != nil && e.ProxyDirection == "OUTBOUND" && e.Destination.Metadata["pod"] == pod
		})
		if e.TLS != tls || !e.ResponseEndEvent.Success {
			t.Errorf("tap: %s", e)
		}
		if n := metric(after, "request_total", "direction=outbound", "dst_pod="+pod) - metric(before, "request_total", "direction=outbound", "dst_pod="+pod); n < 60 {
			t.Errorf("request_total to %s grew by %v", pod, n)
		}
	}
	if n := opened(after) - opened(before); n > 3 {
		t.Errorf("the client made %v connections, for 3 clients that keep theirs", n)
	}

	l.Label("web-2", "tier-")
	for _, p := range protocols {
		l.Eventually(patience, func() error {
			if seen := count(t, p.ask, 30); seen["web-2"] > 0 || len(seen) != 2 {
				return fmt.Errorf("%s: requests still go to %v", p.name, seen)
			}
			// By chance, or since it was slow, none may go there before the agent
			// knows.
			if n := metric(metrics(t, l.Lab, node1), "underlane_endpoints", "dst_service=web", "dst_port="+p.port); n != 2 {
				return fmt.Errorf("%s: the agent knows %v endpoints", p.name, n)
			}
			return nil
		})
		if seen := count(t, p.ask, 60); seen["web-2"] > 0 { // and not again
			t.Errorf("%s: requests went back to %v", p.name, seen)
		}
	}
	l.Label("web-2", "tier=web")
	l.Eventually(patience, func() error {
		if seen := count(t, protocols[0].ask, 30); len(seen) != 3 {
			return fmt.Errorf("requests go to %v", seen)
		}
		return nil
	})
}
