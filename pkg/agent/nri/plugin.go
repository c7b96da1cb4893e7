//go:build !nocluster

package nri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
	"github.com/containerd/nri/pkg/stub"
)

const (
	// ourTime is the longest time by which the plugin delays a pod's start. The runtime
	// disconnects a plugin that takes longer than the runtime's limit, by default 2 s.
	ourTime  = 1500 * time.Millisecond
	firstTry = 50 * time.Millisecond
	lastTry  = 5 * time.Second
)

// Run connects to the runtime, and again when the connection ends, until ctx ends. It
// does not fail if the runtime does not have the interface: that may change.
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

// lost records why there is no connection, and logs the cause if it has changed.
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

// connect serves one connection to its end. connected reports whether it was set up.
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
		// If the runtime went away during the setup, the stub waits for ever: its
		// goroutine is then abandoned.
		_ = conn.Close()
		select {
		case err = <-done:
		case <-time.After(time.Second):
		}
	}
	return session.configured(), err
}

// watched calls broken when a read from the connection fails.
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
	return 0, nil // 0: the stub subscribes to the events that session has methods for
}

// RunPodSandbox implements stub.RunPodInterface. It never fails, so that a pod starts
// even if it cannot be enrolled.
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

// logger writes the stub's log messages at level debug.
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
