package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/test/lab"
)

// grpcIn serves at a port of a pod, and returns where.
func grpcIn(t *testing.T, l *lab.Lab, pod string) string {
	t.Helper()
	s := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	grpc_testing.RegisterTestServiceServer(s, &grpcServer{name: pod})
	at := listenIn(t, l, pod, 9001)
	go func() { _ = s.Serve(at) }()
	t.Cleanup(s.Stop)
	return addrPort(l.Pod(pod).IP(), 9001)
}

// grpcFrom is a client of it in another pod, of one connection.
func grpcFrom(t *testing.T, l *lab.Lab, pod, addr string) grpc_testing.TestServiceClient {
	t.Helper()
	from := dialFrom(t, l, pod)
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return from.DialContext(ctx, "tcp", addr) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_testing.NewTestServiceClient(conn)
}

const grpcPath = "/grpc.testing.TestService/"

// grpcEnd waits for the end of a call, and takes it.
func grpcEnd(t *testing.T, tap *tapReader, client, method string) event {
	t.Helper()
	defer tap.forget()
	return tap.wait("the end of "+method+" of "+client, func(e event) bool {
		return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == grpcPath+method && e.Source.Metadata["pod"] == client
	})
}

// TestObserveGRPC: calls of gRPC between pods that are observed are shown with their status and
// lengths, whatever their size, from the same node and from another.
func TestObserveGRPC(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(watched(serverPod("server", node1)), watched(clientPod("near", node1)), watched(clientPod("far", node2))))
	tap := startTap(t, l, node1)
	waitObserved(t, l, tap, "near", "http://"+addrPort(l.Pod("server").IP(), 8080)+"/first")
	addr := grpcIn(t, l, "server")
	for _, client := range []string{"near", "far"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		c := grpcFrom(t, l, client, addr)
		check := func(method string, code codes.Code, sent, received uint64) {
			t.Helper()
			end := grpcEnd(t, tap, client, method)
			got := end.ResponseEndEvent
			if !got.GRPC || got.GRPCStatusCode != int(code) || got.Authority != addr || got.Method != "POST" || end.Protocol != "grpc" || end.Origin != "kernel" {
				t.Errorf("%s of %s: got the event %s, want the code %v", method, client, end, code)
			}
			if got.RequestBytes < sent || got.RequestBytes > sent+sent/100+100 || got.ResponseBytes < received || got.ResponseBytes > received+received/100+100 {
				t.Errorf("%s of %s: sent %d bytes and received %d, want %d and %d", method, client, got.RequestBytes, got.ResponseBytes, sent, received)
			}
		}
		if _, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(100)}); err != nil {
			t.Fatal(err)
		}
		check("UnaryCall", codes.OK, 100, 100)
		_, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.Unavailable), Message: "no"}})
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("got %v", err)
		}
		check("UnaryCall", codes.Unavailable, 0, 0)
		const large = 3 << 20
		big, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(large)})
		if err != nil || !bytes.Equal(big.GetPayload().GetBody(), payload(large).GetBody()) {
			t.Fatalf("got %d bytes, %v", len(big.GetPayload().GetBody()), err)
		}
		check("UnaryCall", codes.OK, large, large)

		// Calls at once on the connection, one of which is cancelled.
		aside, end := context.WithCancel(ctx)
		long, err := c.FullDuplexCall(aside)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := long.Send(&grpc_testing.StreamingOutputCallRequest{Payload: payload(10)}); err != nil {
				t.Fatal(err)
			}
			if _, err := long.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(7)}); err != nil {
			t.Fatal(err)
		}
		check("UnaryCall", codes.OK, 7, 7)
		end()
		cut := grpcEnd(t, tap, client, "FullDuplexCall")
		if got := cut.ResponseEndEvent; !got.Reset || got.GRPCStatusCode != int(codes.Canceled) || got.ResponseBytes < 30 {
			t.Errorf("got the event %s, want a call that was cancelled", cut)
		}
	}
	samples := metrics(t, l, node1)
	if n := metric(samples, "response_total", "direction=outbound", "pod=near", "grpc_status_code=14"); n != 1 {
		t.Errorf("response_total has %v calls of near with the code 14, want 1", n)
	}
	for _, reason := range []string{"observe-lost", "observe-read-failed", "observe-gap", "observe-refused", "observe-untold"} {
		if n := metric(samples, "underlane_kernel_events_total", "reason="+reason); n != 0 {
			t.Errorf("%s is %v", reason, n)
		}
	}
}

// TestTapObserve: agent tap --observe shows requests of pods without a label, also those on a
// connection that is open, until the command ends, even if it is killed.
func TestTapObserve(t *testing.T) {
	t.Parallel()
	server, client := serverPod("server", node1), clientPod("client", node1)
	server.Labels, client.Labels = nil, nil
	l := lab.Up(t, lab.Options{}, manifests(server, client, serverPod("meshed", node1)))
	waitEnrolled(t, l, "default/meshed")
	addr := grpcIn(t, l, "server")
	c := grpcFrom(t, l, "client", addr)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	call := func(size int) {
		t.Helper()
		if _, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: payload(size)}); err != nil {
			t.Fatal(err)
		}
	}
	call(1) // the connection is open before

	for target, want := range map[string]string{"pod/meshed": "are in the mesh", "pod/nobody": "no such pod", "": "say which pods"} {
		args := []string{"tap", "--observe"}
		if target != "" {
			args = append(args, target)
		}
		if r := l.TryAgent(node1, args...); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%q: got %s, want an error with %q", target, r, want)
		}
	}

	cmd := l.AgentCommand(node1, "tap", "--observe", "pod/client", "-o", "json", "--max-rps", "0")
	out := new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	text := "http://" + addrPort(l.Pod("server").IP(), 8080) + "/text"
	l.Eventually(patience, func() error {
		call(5)
		if r := l.TryExec("client", "labtest", "get", text); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		got := out.String()
		if !strings.Contains(got, `"path":"/text"`) {
			return fmt.Errorf("the tap has no request of HTTP/1:\n%s", got)
		}
		// What HPACK has sent before is not known, and the tap says so.
		if !strings.Contains(got, `"protocol":"http2"`) || !strings.Contains(got, `"path":"?"`) {
			return fmt.Errorf("the tap has no call on the connection that was open:\n%s", got)
		}
		return nil
	})
	watches := func() float64 {
		return metric(metrics(t, l, node1), "underlane_kernel_events_total", "reason=observe-record")
	}
	if watches() == 0 {
		t.Error("no metric says that pods are observed")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	ended = true
	l.Eventually(patience, func() error {
		if log := l.Logs(node1); !strings.Contains(log, "pod is not observed any more") {
			return fmt.Errorf("the pod is still observed")
		}
		return nil
	})
	call(1) // and the connection is as it was
}
