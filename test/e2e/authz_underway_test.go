package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/test/lab"
)

// underwayPolicy lets in requests to paths that begin with %s, and those with a header field.
const underwayPolicy = `---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: paths, namespace: default}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: server}}}]
  action: ALLOW
  enforcementLevel: Application
  rules:
    - {name: paths, authorization: {type: Inline, paths: [{type: PathPrefix, value: %s}]}}
    - {name: header, authorization: {type: Inline, headers: [{name: X-Stay, value: "yes"}]}}
`

// underwayRequest is a request of TestPolicyCutsRequests.
type underwayRequest struct {
	path string
	next func() error // waits for the next message of the server
}

// TestPolicyCutsRequests: when a change of policies refuses requests under way, those are ended
// within about a second, with the reason: a download over HTTP/1, a response over HTTP/2, a gRPC
// stream, a WebSocket, of clients of the same node and of another. Others go on, those on the
// same connection, too.
func TestPolicyCutsRequests(t *testing.T) {
	t.Parallel()
	const webPort, grpcPort = 9000, 9001
	l := lab.Up(t, lab.Options{}, manifests(clientPod("far", node1), clientPod("near", node2), serverPod("server", node2)))
	waitEnrolled(t, l, "default/far", "default/near", "default/server")

	ticks := func(done <-chan struct{}, tick func() error) error {
		for {
			select {
			case <-done:
				return nil
			case <-time.After(20 * time.Millisecond):
			}
			if err := tick(); err != nil {
				return err
			}
		}
	}
	web := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_ = ticks(r.Context().Done(), func() error {
				_, err := io.WriteString(w, "tick\n")
				w.(http.Flusher).Flush()
				return err
			})
			return
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = ticks(nil, func() error { _, err := io.WriteString(c, "tick\n"); return err })
	})}
	web.Protocols.SetHTTP1(true)
	web.Protocols.SetUnencryptedHTTP2(true)
	go web.Serve(listenIn(t, l, "server", webPort))
	t.Cleanup(func() { web.Close() })
	watched := health.NewServer()
	calls := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(calls, watched)
	go calls.Serve(listenIn(t, l, "server", grpcPort))
	t.Cleanup(calls.Stop)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go ticks(stop, func() error {
		now, _ := watched.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		next := grpc_health_v1.HealthCheckResponse_SERVING
		if now.GetStatus() == next {
			next = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
		watched.SetServingStatus("", next)
		return nil
	})

	l.Apply(fmt.Sprintf(underwayPolicy, "/"))
	tap := startTap(t, l, node2)
	server := l.Pod("server").IP()
	begin := func(pod string, d *podDialer) (cut, stay []underwayRequest) {
		t.Helper()
		addr := addrPort(server, webPort)
		get := func(client http.RoundTripper, path string, header string) underwayRequest {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Stay", header)
			resp, err := client.RoundTrip(r)
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(path, resp, err)
			}
			t.Cleanup(func() { resp.Body.Close() })
			return underwayRequest{path, func() error {
				_, err := io.ReadFull(resp.Body, make([]byte, len("tick\n")))
				if err == io.EOF {
					err = fmt.Errorf("the body ends as if it were complete")
					t.Errorf("%s: %v", path, err)
				}
				return err
			}}
		}
		for _, http2 := range []bool{false, true} {
			p := new(http.Protocols)
			p.SetHTTP1(!http2)
			p.SetUnencryptedHTTP2(http2)
			client := &http.Transport{Protocols: p, DialContext: d.DialContext}
			t.Cleanup(client.CloseIdleConnections)
			kind := fmt.Sprintf("/%s/http2=%v", pod, http2)
			cut = append(cut, get(client, "/cut"+kind, ""))
			stay = append(stay, get(client, "/stay"+kind, ""), get(client, "/header"+kind, "yes"))
		}
		upgrade := func(path string, silence time.Duration) underwayRequest {
			t.Helper()
			c := d.raw(t, addr)
			time.Sleep(silence)
			c.send("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 101 {
				t.Fatal(path, resp, err)
			}
			return underwayRequest{path, func() error {
				_, err := io.ReadFull(c, make([]byte, len("tick\n")))
				return err
			}}
		}
		cut, stay = append(cut, upgrade("/cut/"+pod+"/ws", 0)), append(stay, upgrade("/stay/"+pod+"/ws", 0))
		stay = append(stay, upgrade("/stay/"+pod+"/late", time.Second)) // the client connects ahead of need
		conn, err := grpc.NewClient("passthrough:///"+addrPort(server, grpcPort), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		watch := func(header string) underwayRequest {
			t.Helper()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-stay", header)
			stream, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return underwayRequest{"/grpc.health.v1.Health/Watch", func() error {
				_, err := stream.Recv()
				if err != nil && (status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "policy does not allow")) {
					t.Errorf("gRPC: got %v, want PERMISSION_DENIED with the reason", err)
				}
				return err
			}}
		}
		return append(cut, watch("no")), append(stay, watch("yes"))
	}
	var cut, stay []underwayRequest
	for _, pod := range []string{"far", "near"} {
		c, s := begin(pod, dialFrom(t, l, pod))
		cut, stay = append(cut, c...), append(stay, s...)
	}
	for _, r := range append(append([]underwayRequest{}, cut...), stay...) {
		if err := r.next(); err != nil {
			t.Fatalf("%s, before the change: %v", r.path, err)
		}
	}
	l.Apply(fmt.Sprintf(underwayPolicy, "/stay"))
	began := time.Now()
	for _, r := range cut {
		for r.next() == nil {
			if time.Since(began) > patience {
				t.Fatalf("%s goes on after %v", r.path, time.Since(began))
			}
		}
	}
	t.Logf("all are cut %v after the change", time.Since(began).Round(time.Millisecond))
	for _, r := range cut {
		e := tap.wait("the end of "+r.path, func(e event) bool {
			return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == r.path && e.ProxyDirection == "INBOUND" && e.Reason != ""
		})
		if e.Reason != "policy-denied" || e.Policy == nil || e.Policy.Verdict != "denied" {
			t.Errorf("%s, in tap: got %v, want policy-denied, and what has decided", r.path, e)
		}
	}
	if n := metric(metrics(t, l, node2), "underlane_policy_revoked_requests_total"); int(n) != len(cut) {
		t.Errorf("got %v requests cut in the metrics, want %d", n, len(cut))
	}
	for _, r := range stay {
		for range 20 { // what came before the change may wait
			if err := r.next(); err != nil {
				t.Errorf("%s, which remains allowed: %v", r.path, err)
				break
			}
		}
	}
}
