package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/agent/nri"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
	"github.com/underlane/underlane/test/ports"
)

// node is an agent on a node of its own, and its controller.
type node struct {
	*Agent
	t         *testing.T
	authority *ca.Directory
	server    *server.Server
	front     *server.Front
	version   uint64
}

func newNode(t *testing.T) *node {
	t.Helper()
	nstest.RequireRoot(t)
	dir := t.TempDir()
	n := &node{t: t}
	var err error
	if n.authority, err = ca.Open(filepath.Join(dir, "ca"), "cluster.local"); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", ports.Reserve(t).String()) // for the next controller, too
	if err != nil {
		t.Fatal(err)
	}
	n.serve(ln)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cgroup := nstest.Cgroup(t)
	n.Agent, err = newAgent(Config{
		Node: "n1", Controller: ln.Addr().String(), TrustDomain: "cluster.local",
		TrustAnchors: write("anchors.pem", string(n.authority.AnchorsPEM())),
		TokenFile:    write("token", n.authority.BootstrapToken("n1")),
		CgroupRoot:   cgroup, PinRoot: nstest.BPFFS(t), Proc: "/proc",
		HeartbeatTimeout: time.Minute, DrainTimeout: 5 * time.Second,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.load(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	for _, run := range []func(context.Context) error{
		n.client.Run, n.pods.Run, func(ctx context.Context) error { n.certs.Run(ctx); return nil },
	} {
		go func() { _ = run(ctx); done <- struct{}{} }()
	}
	t.Cleanup(func() {
		cancel()
		for range 3 {
			<-done
		}
		n.shutdown()
		if err := n.datapath.Cleanup(); err != nil {
			t.Error(err)
		}
		n.front.Stop()
	})
	return n
}

// serve starts the controller.
func (n *node) serve(ln net.Listener) {
	n.t.Helper()
	cfg, err := server.TLSConfig(n.authority, nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		n.t.Fatal(err)
	}
	n.server = server.New(server.Options{
		Authority: n.authority, Authenticate: n.authority.Authenticate, NodeLifetime: time.Hour, WorkloadLifetime: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
	n.front = server.NewFront(cfg, nil, n.server.Register)
	front := n.front
	go func() { _ = front.Serve(ln) }()
}

// publish makes pods the cluster's, and waits until the agent knows them.
func (n *node) publish(pods ...*mesh.Workload) {
	n.t.Helper()
	n.version++
	var anchors [][]byte
	for _, a := range n.authority.Anchors() {
		anchors = append(anchors, a.Raw)
	}
	n.server.Publish(server.NewSnapshot(n.version, server.Content{Workloads: pods, Anchors: anchors}, n.server.Snapshot()))
	n.until("the agent has the state", func() bool {
		have := n.store.View().Local()
		for _, w := range pods {
			got, _ := n.store.View().WorkloadByUID(w.UID)
			if got == nil || got.Meshed != w.Meshed || len(got.Addrs) != len(w.Addrs) {
				return false
			}
		}
		return n.client.Connected() && len(have) == len(pods)
	})
}

func (n *node) until(what string, cond func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("%s: not after 15 s; pods: %v, client: %+v", what, n.pods.Status(), n.client.Status())
		}
	}
}

// state is what the agent says of web(); "": nothing.
func (n *node) state() string {
	for _, p := range n.pods.Status() {
		if p.GetNamespace() == "shop" && p.GetName() == "web" {
			return p.GetState()
		}
	}
	return ""
}

// run gives a sandbox more time than a runtime does: the machine may be busy.
func (n *node) run(s nri.Sandbox) (nri.Outcome, time.Duration) { return n.runWithin(10*time.Second, s) }

func (n *node) runWithin(limit time.Duration, s nri.Sandbox) (nri.Outcome, time.Duration) {
	ctx, cancel := context.WithTimeout(n.t.Context(), limit)
	defer cancel()
	start := time.Now()
	outcome, err := n.sandboxes.Enrol(ctx, s)
	if err != nil {
		n.t.Logf("%s: %v", outcome, err)
	}
	return outcome, time.Since(start)
}

var podAddr = netip.MustParseAddr("10.98.0.2")

// web is a pod that is scheduled and has no address yet.
func web() *mesh.Workload {
	return &mesh.Workload{
		UID: "uid-web", Name: "web", Namespace: "shop", ServiceAccount: "web", Node: "n1", Meshed: true, OwnLabel: true,
		OwnerKind: "pod", OwnerName: "web",
		Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"},
	}
}

// sandbox is a new network namespace with an address, as the runtime tells of it.
func sandbox(t *testing.T, addr netip.Addr, label string) (nri.Sandbox, *netns.NS) {
	t.Helper()
	ns := nstest.New(t)
	nstest.Join(t, ns, nstest.New(t), []netip.Prefix{netip.PrefixFrom(addr, 24)}, nil)
	s := nri.Sandbox{UID: "uid-web", Namespace: "shop", Name: "web", Netns: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.FD())}
	if label != "" {
		s.Labels = map[string]string{mesh.LabelMesh: label}
	}
	return s, ns
}

// captured reports whether a connection to an address that the pod has no route
// to opens: to the agent then.
func captured(t *testing.T, ns *netns.NS) bool {
	t.Helper()
	fd, err := ns.Socket(podAddr, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := rawio.Connect(ctx, fd, netip.MustParseAddrPort("192.0.2.1:80"))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
