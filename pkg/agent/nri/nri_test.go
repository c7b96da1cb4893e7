package nri

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/net/multiplex"
	"github.com/containerd/ttrpc"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runtime is a container runtime's side of one plugin's connection.
type runtime struct {
	t      *testing.T
	plugin api.PluginService
	name   string
	closed func()
}

func (r *runtime) RegisterPlugin(_ context.Context, req *api.RegisterPluginRequest) (*api.Empty, error) {
	r.name = req.GetPluginIdx() + "-" + req.GetPluginName()
	return &api.Empty{}, nil
}

func (r *runtime) UpdateContainers(context.Context, *api.UpdateContainersRequest) (*api.UpdateContainersResponse, error) {
	return &api.UpdateContainersResponse{}, nil
}

// accept takes the next plugin and sets it up as containerd does.
func accept(t *testing.T, ln net.Listener) *runtime {
	t.Helper()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	r := &runtime{t: t}
	mux := multiplex.Multiplex(conn, multiplex.WithBlockedRead())
	toPlugin, err := mux.Open(multiplex.PluginServiceConn)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(toPlugin)
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	fromPlugin, err := mux.Listen(multiplex.RuntimeServiceConn)
	if err != nil {
		t.Fatal(err)
	}
	registered := make(chan struct{})
	api.RegisterRuntimeService(server, &registering{r, registered})
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(context.Background(), fromPlugin) })
	mux.Unblock()
	r.plugin = api.NewPluginClient(client)
	r.closed = sync.OnceFunc(func() {
		_ = client.Close()
		_ = server.Close()
		_ = mux.Close()
		_ = conn.Close()
		wg.Wait()
	})
	t.Cleanup(r.closed)
	select {
	case <-registered:
	case <-time.After(10 * time.Second):
		t.Fatal("the plugin does not register")
	}
	conf, err := r.plugin.Configure(t.Context(), &api.ConfigureRequest{
		RuntimeName: "containerd", RuntimeVersion: "v2.1.0", NRIVersion: "v0.12.5",
		RegistrationTimeout: 5000, RequestTimeout: 800,
	})
	if err != nil {
		t.Fatal(err)
	}
	var want api.EventMask
	want.Set(api.Event_RUN_POD_SANDBOX, api.Event_STOP_POD_SANDBOX)
	if conf.GetEvents() != int32(want) {
		t.Errorf("subscribes to events %x, want %x", conf.GetEvents(), int32(want))
	}
	return r
}

type registering struct {
	*runtime
	done chan struct{}
}

func (r *registering) RegisterPlugin(ctx context.Context, req *api.RegisterPluginRequest) (*api.Empty, error) {
	defer close(r.done)
	return r.runtime.RegisterPlugin(ctx, req)
}

// handler keeps what it is told, and takes its time.
type handler struct {
	slow bool

	mu      sync.Mutex
	run     []Sandbox
	stopped []string
	left    time.Duration // of the time for it, when RunSandbox began
	until   time.Time     // when that is over
}

func (h *handler) RunSandbox(ctx context.Context, s Sandbox) {
	until, _ := ctx.Deadline()
	left := time.Until(until)
	if h.slow {
		<-ctx.Done()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run, h.until, h.left = append(h.run, s), until, left
}

func (h *handler) StopSandbox(s Sandbox) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = append(h.stopped, s.UID)
}

func start(t *testing.T, h Handler) (*Plugin, string) {
	t.Helper()
	p := &Plugin{Socket: filepath.Join(t.TempDir(), "nri.sock"), Handler: h, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p, p.Socket
}

func listen(t *testing.T, socket string) net.Listener {
	t.Helper()
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func until(t *testing.T, p *Plugin, what string, cond func(Status) bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(p.Status()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, p.Status())
		}
	}
}

func TestSandboxes(t *testing.T) {
	h := &handler{}
	p, socket := start(t, h)
	until(t, p, "a runtime without NRI", func(s Status) bool { return !s.Connected && s.LastError != "" })
	r := accept(t, listen(t, socket))
	until(t, p, "connected", func(s Status) bool {
		return s.Connected && s.Runtime == "containerd v2.1.0" && s.LastError == ""
	})
	if r.name != "90-underlane" {
		t.Errorf("the plugin is %s", r.name)
	}
	_, err := r.plugin.StateChange(t.Context(), &api.StateChangeEvent{Event: api.Event_RUN_POD_SANDBOX, Pod: &api.PodSandbox{
		Uid: "u", Namespace: "ns", Name: "p", Labels: map[string]string{"a": "b"}, Pid: 7, Ips: []string{"10.0.0.1", "fd00::1", "nonsense"},
		Linux: &api.LinuxPodSandbox{Namespaces: []*api.LinuxNamespace{{Type: "ipc"}, {Type: "network", Path: "/var/run/netns/x"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = r.plugin.StateChange(t.Context(), &api.StateChangeEvent{Event: api.Event_STOP_POD_SANDBOX, Pod: &api.PodSandbox{Uid: "u"}}); err != nil {
		t.Fatal(err)
	}
	want := []Sandbox{{
		UID: "u", Namespace: "ns", Name: "p", Labels: map[string]string{"a": "b"}, PID: 7, Netns: "/var/run/netns/x",
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
	}}
	if diff := cmp.Diff(want, h.run, cmpopts.EquateComparable(netip.Addr{})); diff != "" || !cmp.Equal(h.stopped, []string{"u"}) {
		t.Errorf("stopped %v, sandboxes (-want +got)\n%s", h.stopped, diff)
	}
}

// A handler that is slow must give up before the runtime gives the plugin up.
func TestTheRuntimesLimitIsKept(t *testing.T) {
	h := &handler{slow: true}
	_, socket := start(t, h)
	r := accept(t, listen(t, socket))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // the machine may be busy
	defer cancel()
	asked := time.Now()
	if _, err := r.plugin.StateChange(ctx, &api.StateChangeEvent{Event: api.Event_RUN_POD_SANDBOX, Pod: &api.PodSandbox{}}); err != nil {
		t.Fatalf("it did not give up: %v", err)
	}
	if h.left > 700*time.Millisecond || h.until.Sub(asked) < 300*time.Millisecond {
		t.Errorf("the handler has %s where the runtime waits for 800 ms", h.left)
	}
}

// The runtime restarts.
func TestReconnects(t *testing.T) {
	p, socket := start(t, &handler{})
	ln := listen(t, socket)
	accept(t, ln).closed()
	until(t, p, "lost", func(s Status) bool { return !s.Connected && s.Reconnects == 1 })
	r := accept(t, ln)
	until(t, p, "connected again", func(s Status) bool { return s.Connected })
	r.closed()
	_ = ln.Close()
	until(t, p, "gone", func(s Status) bool { return !s.Connected && s.Reconnects == 2 && s.LastError != "" })
}
