// Package agent assembles a node's agent: the datapath in the kernel, the proxy, the
// state from the controller, the certificates, and tap.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/internal/version"
	"github.com/underlane/underlane/pkg/agent/carry"
	"github.com/underlane/underlane/pkg/agent/connections"
	"github.com/underlane/underlane/pkg/agent/containers"
	"github.com/underlane/underlane/pkg/agent/costs"
	"github.com/underlane/underlane/pkg/agent/enrol"
	"github.com/underlane/underlane/pkg/agent/handover"
	"github.com/underlane/underlane/pkg/agent/nri"
	"github.com/underlane/underlane/pkg/agent/observed"
	"github.com/underlane/underlane/pkg/agent/paths"
	"github.com/underlane/underlane/pkg/agent/try"
	"github.com/underlane/underlane/pkg/agent/weights"
	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/l7proxy"
	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/podns"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/telemetry"
)

// Agent is a running agent. It embeds its components, and has its own life: how it starts,
// takes the node over from another agent, gives it to the next one, and ends (lifecycle.go,
// takeover.go).
type Agent struct {
	components

	socket           net.Listener // of the node API
	handoverListener net.Listener // of successors
	successors       *handover.Server
	worked           bool // work was called before
}

// components are what an agent is assembled from. Its methods connect them: they bring the
// kernel's events to tap, measure what pods use, and serve the APIs.
type components struct {
	config  Config
	log     *slog.Logger
	started time.Time

	store       *state.Store
	client      *client.Client
	certs       *mtls.Manager
	datapath    *redirect.Datapath // nil before load
	proxy       *l7proxy.Proxy
	processors  *processors
	conns       *listener.Group
	carrier     *carry.Carrier
	network     *carry.Network
	pods        *enrol.Reconciler
	sandboxes   *enrol.Sandboxes
	runtime     *nri.Plugin // nil: the agent does not connect to the container runtime
	hub         *tap.Hub
	metrics     *telemetry.Metrics
	ledger      *costs.Ledger
	weights     *weights.Follower
	memory      *figures.Store
	judged      *calls.Store
	usage       *containers.Sampler
	observing   observing
	itself      *mesh.Workload // the node, as the client of pods that it probes
	limits      *lease.Table
	paths       *paths.Table
	pathsAfter  chan struct{}                      // closed when this agent may keep paths; nil: from its start
	redirects   atomic.Pointer[redirect.Redirects] // nil: packets of kernel paths go by way of the host
	noRedirects atomic.Pointer[error]              // why redirects is nil
	names       names
	watch       *observed.Watch
	observer    *redirect.Observer // of watch; nil before load

	connections *connections.Table
	tries       *try.Dialer
}

// Run runs an agent until ctx is done, and then lets open connections end. It fails at
// once if the node does not have what an agent needs. It does not fail while the
// controller is away.
func Run(ctx context.Context, config Config, log *slog.Logger) error {
	a, err := newAgent(config, log)
	if err != nil {
		return err
	}
	return a.run(ctx)
}

// newAgent makes an agent. It opens no socket and changes nothing in the kernel.
func newAgent(config Config, log *slog.Logger) (*Agent, error) {
	if _, err := config.token(); err != nil {
		return nil, err
	}
	secrets, err := tap.NewRedaction(config.RedactHeaders...)
	if err != nil {
		return nil, fmt.Errorf("--redact-headers: %w", err)
	}
	a := &Agent{successors: handover.NewServer(log)}
	a.config, a.log, a.started, a.itself = config, log, time.Now(), mesh.NodeItself(config.Node)
	a.store = state.NewStore(config.Node)
	a.limits = lease.NewTable()
	a.client = client.New(client.Options{
		Limits:     &client.Limits{Table: a.limits, Now: balance.Now, Needed: a.sharesLimits},
		Controller: config.Controller,
		Node:       config.Node,
		Token:      config.token,
		Anchors:    func() ([]byte, error) { return os.ReadFile(config.TrustAnchors) },
		Store:      a.store,
		Log:        log,
		Version:    version.Version,
	})
	a.certs = mtls.NewManager(a.client, config.TrustDomain, log)
	a.metrics = telemetry.New(telemetry.Options{Agent: reporter{&a.components}, MaxPods: config.PodMetrics})
	a.judged = calls.New(time.Now)
	a.memory = figures.NewStore(figures.Options{Beside: a.judged.Size}, time.Now())
	a.connections = connections.New(connections.Options{
		Node: config.Node, Sinks: []tap.Sink{a.metrics, a.memory},
		Direct:   a.direct,
		Pods:     func() []*mesh.Workload { return a.store.View().Local() },
		Workload: func(addr netip.Addr) *mesh.Workload { w, _ := a.store.View().Workload(addr); return w },
		Service:  func(addr netip.Addr) *mesh.Service { s, _ := a.store.View().ServiceVIP(addr); return s },
	})
	if a.observing, err = a.newObserving(&config.Observe); err != nil {
		return nil, err
	}
	a.metrics.Exports(a.observing.counts)
	a.hub = tap.NewHub(append([]tap.Sink{a.connections, a.metrics, a.memory, judgedSink{a.judged}}, a.observing.sinks()...)...)
	a.hub.Redact(secrets)
	a.conns = &listener.Group{Log: log}
	known := &meshState{Store: a.store, client: a.client, nodes: config.NodeIPs}
	a.carrier = carry.New(carry.Options{Conns: a.conns, Tap: a.hub, State: known, Log: a.log, OnLeft: func() { a.pods.Wake() }})
	a.names.pod, a.names.log, a.names.wanted = a.carrier.ByCookie, log, config.DNSNames
	a.network = carry.NewNetwork(a.carrier)
	a.tries = &try.Dialer{Network: a.network, Hub: a.hub}
	finder := podns.New(config.Proc, config.podCgroup())
	a.pods = enrol.New(enrol.Options{
		Store: a.store, Controller: a.client, Certs: a.certs, Carrier: a.carrier,
		Finder: finder, Log: log,
	})
	a.conns.OnRevived = a.pods.RepairSoon
	watching := observed.Options{State: a.store, Finder: finder, Controller: a.client, Tap: a.hub, Wanted: a.hub.Wanted, Log: log}
	if config.ObservePaths {
		watching.Paths = func() map[string]uint64 { return a.paths.Clients() }
	}
	a.watch = observed.New(watching)
	a.sandboxes = enrol.NewSandboxes(a.pods, config.Node, config.Proc)
	if config.NRISocket != "" {
		a.runtime = &nri.Plugin{Socket: config.NRISocket, Handler: a.sandboxes, Log: log}
	}
	a.paths = paths.New(paths.Options{Judge: settling{&a.components}, Pods: a.carrier, State: a.store, Log: log})
	has := resourcesOfProcess()
	a.processors = newProcessors(log, has.memory)
	log.Info("budgets", "openFiles", has.openFiles, "memory", has.memory, "descriptors", has.descriptors(), "buffers", has.buffers())
	if err := growDescriptorTable(min(has.openFiles, has.descriptors()+reserveLeast)); err != nil {
		log.Warn("bursts of new connections may wait for the kernel", "cause", err)
	}
	a.proxy = newProxy(a, known, has)
	a.carrier.Serve(a.proxy)
	measure(a, finder)
	return a, nil
}

// newProxy makes the agent's proxy, which has these limits of the process.
func newProxy(a *Agent, known *meshState, has resources) *l7proxy.Proxy {
	return l7proxy.New(l7proxy.Options{
		Network: a.network,
		State:   known,
		Certs:   a.certs,
		Tap:     a.hub,
		Log:     a.log,
		Calls:   a.judged,

		Sampling: a.observing.sampling, Logged: a.observing.log.Active,
		StaleKeys: a.client.StaleKeys,
		Leases:    a.limits,
		Paths:     a.paths,
		// Spans are the proxy's.
		PathsOfRequests: a.config.KernelPathHTTP && a.observing.sampling == nil,

		OpaqueStreams: a.config.OpaqueStreams,
		Names:         &a.names,

		Shares: a.processors.shares, Threads: &a.processors.threads,
		// HandshakeSilence is longer than the kernel takes to detect a hung agent, so
		// that the kernel does not steer the plaintext connection that follows to that
		// agent again.
		Limits: l7proxy.Limits{
			HandshakeSilence: a.config.HeartbeatTimeout + time.Second,
			PodConnections:   a.config.PodConnections, PodBuffer: a.config.PodBuffer,
			Descriptors: has.descriptors(), Memory: has.buffers(),
		},
	})
}

// measure makes what measures the use of the node by pods, and by the agent for them.
func measure(a *Agent, finder *podns.Finder) {
	a.ledger = costs.New(costs.Options{
		Node: a.config.Node, Usage: a.proxy.PodUsage,
		Local: func() []*mesh.Workload { return a.store.View().Local() },
	})
	cgroups := func() ([]cgroup.Tree, error) { return cgroup.Host(a.config.Proc) }
	a.weights = &weights.Follower{Host: cgroups, State: a.store, Shares: a.proxy, Log: a.log}
	a.usage = containers.New(containers.Options{
		Node:      a.config.Node,
		Host:      cgroups,
		Pods:      func() []*mesh.Workload { return a.store.View().Local() },
		Processes: func(w *mesh.Workload) ([]string, error) { return finder.Processes(w.UID, w.Addrs) },
		Costs:     a.ledger.Costs,

		Certificates: a.certificates,
	})
}
