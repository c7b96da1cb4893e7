package nodeapi

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fake struct{}

func (fake) Status(context.Context) *agentv1.StatusResponse {
	return &agentv1.StatusResponse{Node: "node-1", Synced: true}
}
func (fake) Dump(context.Context) ([]byte, error) { return []byte(`{"maps":{}}`), nil }

func start(t *testing.T, hub *tap.Hub) agentv1.NodeClient {
	t.Helper()
	return agentv1.NewNodeClient(serveAt(t, &Server{Hub: hub, Source: fake{}, Dumper: fake{}}))
}

// serveAt serves the node API at a socket of the test, and returns a connection to it.
func serveAt(t *testing.T, server *Server) *grpc.ClientConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "agent.sock")
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return conn
}

func TestTap(t *testing.T) {
	hub := tap.NewHub()
	client := start(t, hub)
	stream, err := client.Tap(t.Context(), &agentv1.TapRequest{Target: "deploy/web", Method: "GET", Buffer: 4096})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil { // from now on nothing is missed
		t.Fatal(err)
	}
	web := &mesh.Workload{Name: "web-1", OwnerKind: "deployment", OwnerName: "web"}
	const n = 2500 // more than one message holds
	for i := range uint64(n) {
		hub.Emit(&tap.Event{Kind: tap.RequestInit, Stream: i, Method: "GET", Source: tap.Peer{Workload: web}})
		hub.Emit(&tap.Event{Kind: tap.RequestInit, Stream: i, Method: "PUT", Source: tap.Peer{Workload: web}})
	}
	var got, lost uint64
	for got+lost < n {
		batch, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range batch.GetEvents() {
			if e.GetStream() != got || e.GetMethod() != "GET" {
				t.Fatalf("event %d is %s %d", got, e.GetMethod(), e.GetStream())
			}
			got++
		}
		lost += batch.GetLost()
	}
	if got != n {
		t.Errorf("got %d events, lost %d", got, lost)
	}
}

// TestTapWithHeaders: only a tap that asks for fields gets them, and many large events come in
// messages that gRPC carries.
func TestTapWithHeaders(t *testing.T) {
	hub := tap.NewHub()
	client := start(t, hub)
	open := func(headers bool) grpc.ServerStreamingClient[agentv1.TapEvents] {
		stream, err := client.Tap(t.Context(), &agentv1.TapRequest{Headers: headers, Buffer: 4096})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	without := open(false)
	if hub.Headers() != nil {
		t.Error("no tap asks for fields, and they are collected")
	}
	with := open(true)
	e := tap.Event{Kind: tap.RequestInit, Headers: tap.Add(hub.Headers(), nil, "x", strings.Repeat("v", tap.MaxHeaderBytes), false)}
	const n = 1000
	for range n {
		hub.Emit(&e)
	}
	for stream, wants := range map[grpc.ServerStreamingClient[agentv1.TapEvents]]bool{without: false, with: true} {
		got, filled := 0, 0
		for got < n {
			batch, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got += len(batch.GetEvents())
			for _, e := range batch.GetEvents() {
				if len(e.GetHeaders().GetFields()) > 0 {
					filled++
				}
			}
		}
		if wants != (filled > 100) || !wants && filled > 0 {
			t.Errorf("a tap that asks for fields: %v, gets them in %d of %d events", wants, filled, n)
		}
	}
}

func TestTapRefusesBadFilter(t *testing.T) {
	client := start(t, tap.NewHub())
	stream, err := client.Tap(t.Context(), &agentv1.TapRequest{Target: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("err %v, want InvalidArgument", err)
	}
}

func TestTapUnsubscribes(t *testing.T) {
	hub := tap.NewHub()
	client := start(t, hub)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.Tap(ctx, &agentv1.TapRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	cancel()
	for deadline := time.Now().Add(time.Minute); hub.Active(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the subscription outlives its reader")
		}
	}
}

func TestStatusAndDump(t *testing.T) {
	client := start(t, tap.NewHub())
	st, err := client.Status(t.Context(), &agentv1.StatusRequest{})
	if err != nil || st.GetNode() != "node-1" || st.GetReady() || len(st.GetNotReady()) != 1 {
		t.Errorf("status %v, error %v; want node-1, not ready for one reason", st, err)
	}
	d, err := client.Dump(t.Context(), &agentv1.DumpRequest{})
	if err != nil || string(d.GetJson()) != `{"maps":{}}` {
		t.Errorf("dump %v, error %v; want empty maps", d, err)
	}
}

type usage struct{}

func (usage) Report() *agentv1.ResourcesResponse {
	return &agentv1.ResourcesResponse{Node: "node-1", Pods: []*agentv1.PodResource{{Name: "web"}}}
}

func TestResources(t *testing.T) {
	conn := serveAt(t, &Server{Hub: tap.NewHub(), Source: fake{}, Usage: usage{}})
	got, err := agentv1.NewPodResourcesClient(conn).Resources(t.Context(), &agentv1.ResourcesRequest{})
	if err != nil || got.GetNode() != "node-1" || len(got.GetPods()) != 1 {
		t.Errorf("got %v, %v; want node-1's one pod", got, err)
	}
	conn = serveAt(t, &Server{Hub: tap.NewHub(), Source: fake{}})
	if _, err := agentv1.NewPodResourcesClient(conn).Resources(t.Context(), &agentv1.ResourcesRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("without a reporter: %v, want Unimplemented", err)
	}
}

func TestJudge(t *testing.T) {
	ready := func() *agentv1.StatusResponse {
		return &agentv1.StatusResponse{
			SnapshotVersion: 1, ProgramsAttached: true,
			Pods:         []*agentv1.Pod{{Namespace: "a", Name: "b", Identity: "id", State: PodEnrolled}, {State: PodPending, Identity: "new"}},
			Certificates: []*agentv1.Certificate{{Identity: "id", State: CertValid}},
		}
	}
	for name, c := range map[string]struct {
		change func(*agentv1.StatusResponse)
		want   string
	}{
		"ready":        {func(*agentv1.StatusResponse) {}, ""},
		"synced":       {func(s *agentv1.StatusResponse) { s.SnapshotVersion, s.Synced = 0, true }, ""},
		"no snapshot":  {func(s *agentv1.StatusResponse) { s.SnapshotVersion = 0 }, "no state from the controller"},
		"no programs":  {func(s *agentv1.StatusResponse) { s.ProgramsAttached = false }, "not attached"},
		"no cert":      {func(s *agentv1.StatusResponse) { s.Certificates = nil }, "pod a/b has no valid certificate for id"},
		"expired cert": {func(s *agentv1.StatusResponse) { s.Certificates[0].State = CertExpired }, "pod a/b has no valid certificate for id"},
		"own words":    {func(s *agentv1.StatusResponse) { s.NotReady = []string{"stopping"} }, "stopping"},
	} {
		t.Run(name, func(t *testing.T) {
			st := ready()
			c.change(st)
			Judge(st)
			got := strings.Join(st.GetNotReady(), "; ")
			if st.GetReady() != (c.want == "") || !strings.Contains(got, c.want) || (c.want == "" && got != "") {
				t.Errorf("ready %v: %s", st.GetReady(), got)
			}
		})
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close() // a crashed agent leaves its socket

	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second agent: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left in the directory: %v", left)
	}

	// A successor's socket is not removed by its predecessor.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket is gone: %v", err)
	}
	_ = next.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file that is no socket was replaced")
	}
}
