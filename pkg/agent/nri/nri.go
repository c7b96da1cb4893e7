// Package nri hears from the container runtime, by its Node Resource Interface,
// of pods before their first container starts.
package nri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
	"github.com/containerd/nri/pkg/stub"
)

// DefaultSocket is where containerd and CRI-O listen for plugins.
const DefaultSocket = "/var/run/nri/nri.sock"

// Sandbox is what a pod's containers run in: it has the network namespace and the
// addresses.
type Sandbox struct {
	UID, Namespace, Name string
	Labels, Annotations  map[string]string // of the pod
	Netns                string            // path, as the host sees it; "" on the host's network
	PID                  uint32            // of a process in it; 0: not known
	Addrs                []netip.Addr      // as far as the runtime tells
}

// Outcome is what became of a new sandbox.
type Outcome string

// Outcomes.
const (
	Enrolled  Outcome = "enrolled"  // before its first container
	Unlabeled Outcome = "unlabeled" // not a pod of the mesh
	Late      Outcome = "late"      // it was not known in time whether it is
	Failed    Outcome = "failed"    // is tried again without the runtime
)

// Outcomes are all of them.
var Outcomes = []Outcome{Enrolled, Unlabeled, Late, Failed}

// Handler is told of pods.
type Handler interface {
	// RunSandbox is called when a pod has its network. The pod starts when it
	// has returned, and it must before ctx ends.
	RunSandbox(ctx context.Context, s Sandbox)
	// StopSandbox is called when a sandbox's containers have ended and its network
	// is about to be removed. It may be called again later, also when there is
	// another sandbox for the same pod: the kubelet stops sandboxes once more before
	// it removes them.
	StopSandbox(s Sandbox)
}

// Plugin keeps connected to the runtime.
type Plugin struct {
	Socket  string
	Handler Handler
	Log     *slog.Logger

	mu     sync.Mutex
	status Status
}

// Status is how the connection is.
type Status struct {
	Connected  bool
	Runtime    string // name and version; "" before the first connection
	Since      time.Time
	LastError  string // why it is not connected
	Reconnects uint64 // connections that were lost
}

// Status returns how the connection is.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

const (
	// ourTime is the longest that a pod's start is held up. The runtime drops a
	// plugin that takes longer than its limit, 2 s unless configured.
	ourTime  = 1500 * time.Millisecond
	firstTry = 50 * time.Millisecond
	lastTry  = 5 * time.Second
)

// Run keeps connected to the runtime until ctx ends. A runtime without the interface
// is no failure: it may get it later.
func (p *Plugin) Run(ctx context.Context) error {
	wait := firstTry
	for {
		connected, err := p.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if connected {
			wait = firstTry
		}
		p.lost(connected, err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, lastTry)
	}
}

// lost records why there is no connection, and logs a cause that is new.
func (p *Plugin) lost(was bool, err error) {
	text := "the runtime ended the connection"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = p.Socket + " does not exist: the container runtime has no NRI, or it is off: pods are enrolled when they have started"
	case err != nil:
		text = err.Error()
	}
	p.mu.Lock()
	news := was || p.status.LastError != text
	if was || p.status.Since.IsZero() {
		p.status.Since = time.Now()
	}
	if was {
		p.status.Reconnects++
	}
	p.status.Connected, p.status.LastError = false, text
	p.mu.Unlock()
	if news {
		p.Log.Warn("no connection to the container runtime (NRI)", "cause", text)
	}
}

// connect serves one connection to its end. connected: it was set up.
func (p *Plugin) connect(ctx context.Context) (connected bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", p.Socket)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	session := &session{plugin: p}
	session.stub, err = stub.New(session,
		stub.WithPluginName("underlane"), stub.WithPluginIdx("90"),
		stub.WithConnection(watched{conn, cancel}), stub.WithLogger(logger{p.Log}), stub.WithOnClose(cancel))
	if err != nil {
		return false, fmt.Errorf("NRI: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- session.stub.Run(ctx) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		// The stub waits for a runtime that went away while it was being set up,
		// for ever: then its goroutine is left behind.
		_ = conn.Close()
		select {
		case err = <-done:
		case <-time.After(time.Second):
		}
	}
	return session.configured(), err
}

// watched tells when a connection is broken.
type watched struct {
	net.Conn
	broken func()
}

func (w watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil {
		w.broken()
	}
	return n, err
}

// session is the plugin as the runtime sees it, for one connection.
type session struct {
	plugin *Plugin
	stub   stub.Stub
	ready  bool
}

func (s *session) configured() bool {
	s.plugin.mu.Lock()
	defer s.plugin.mu.Unlock()
	return s.ready
}

// Configure implements stub.ConfigureInterface.
func (s *session) Configure(_ context.Context, _, runtime, version string) (api.EventMask, error) {
	s.plugin.mu.Lock()
	s.ready = true
	s.plugin.status.Connected, s.plugin.status.LastError = true, ""
	s.plugin.status.Runtime, s.plugin.status.Since = runtime+" "+version, time.Now()
	s.plugin.mu.Unlock()
	s.plugin.Log.Info("connected to the container runtime (NRI)", "runtime", runtime, "version", version)
	return 0, nil // what there are methods for
}

// RunPodSandbox implements stub.RunPodInterface. It never fails: a pod starts also if
// it cannot be enrolled.
func (s *session) RunPodSandbox(ctx context.Context, pod *api.PodSandbox) error {
	ctx, cancel := context.WithTimeout(ctx, min(ourTime, s.stub.RequestTimeout()*3/4))
	defer cancel()
	s.plugin.Handler.RunSandbox(ctx, sandboxOf(pod))
	return nil
}

// StopPodSandbox implements stub.StopPodInterface.
func (s *session) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	s.plugin.Handler.StopSandbox(sandboxOf(pod))
	return nil
}

func sandboxOf(pod *api.PodSandbox) Sandbox {
	out := Sandbox{
		UID: pod.GetUid(), Namespace: pod.GetNamespace(), Name: pod.GetName(),
		Labels: pod.GetLabels(), Annotations: pod.GetAnnotations(), PID: pod.GetPid(),
	}
	for _, ns := range pod.GetLinux().GetNamespaces() {
		if ns.GetType() == "network" {
			out.Netns = ns.GetPath()
		}
	}
	for _, ip := range pod.GetIps() {
		if addr, err := netip.ParseAddr(ip); err == nil && addr.Zone() == "" {
			out.Addrs = append(out.Addrs, addr.Unmap())
		}
	}
	return out
}

// logger is the stub's log: all of it is detail to us.
type logger struct{ log *slog.Logger }

var _ nrilog.Logger = logger{}

func (l logger) Debugf(ctx context.Context, format string, args ...any) { l.printf(ctx, format, args) }

func (l logger) Infof(ctx context.Context, format string, args ...any) { l.printf(ctx, format, args) }

func (l logger) Warnf(ctx context.Context, format string, args ...any) { l.printf(ctx, format, args) }

func (l logger) Errorf(ctx context.Context, format string, args ...any) { l.printf(ctx, format, args) }

func (l logger) printf(ctx context.Context, format string, args []any) {
	if ctx == nil {
		ctx = context.Background()
	}
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, fmt.Sprintf(format, args...), "from", "nri")
	}
}
