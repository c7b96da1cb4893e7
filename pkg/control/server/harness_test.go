package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/test/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	podA = netip.MustParseAddr("10.1.0.1")
	podB = netip.MustParseAddr("10.1.0.2")
	podC = netip.MustParseAddr("10.1.0.3")
	vip  = netip.MustParseAddr("10.96.0.1")
	far  = netip.MustParseAddr("192.0.2.1")
	idA  = mesh.Identity{TrustDomain: "cluster.local", Namespace: "ns", ServiceAccount: "a"}
	idB  = mesh.Identity{TrustDomain: "cluster.local", Namespace: "ns", ServiceAccount: "b"}
)

// pod is a meshed pod whose service account has its name.
func pod(name, node string, addr netip.Addr) *mesh.Workload {
	return &mesh.Workload{
		UID: "uid-" + name, Name: name, Namespace: "ns", ServiceAccount: name, Node: node,
		OwnerKind: "pod", OwnerName: name, Addrs: []netip.Addr{addr}, Meshed: true, Ready: true,
		Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "ns", ServiceAccount: name},
	}
}

func serviceOf(pods ...*mesh.Workload) *mesh.Service {
	port := mesh.ServicePort{Name: "http", Port: 80}
	for _, p := range pods {
		port.Endpoints = append(port.Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(p.Addrs[0], 8080), WorkloadUID: p.UID, Workload: p, Ready: true})
	}
	return &mesh.Service{Name: "web", Namespace: "ns", VIPs: []netip.Addr{vip}, Ports: []mesh.ServicePort{port}}
}

// controller is a Server on loopback TCP that can be stopped and started again.
type controller struct {
	t         testing.TB
	dir       string
	authority *ca.Directory
	server    *Server
	front     *Front
	addr      string
	listener  net.Listener
	version   uint64
	lifetime  time.Duration
	observer  Observer
	limits    limits
	isNode    func(netip.Addr) bool
	log       *slog.Logger
	leader    func() (bool, string)
	auth      func(ctx context.Context, node, token string) error // nil: the authority's
}

func newController(t testing.TB, edit ...func(*controller)) *controller {
	c := &controller{t: t, dir: t.TempDir(), addr: ports.Reserve(t).String(), lifetime: time.Hour, limits: strangers, log: quiet()}
	for _, e := range edit {
		e(c)
	}
	c.start()
	t.Cleanup(func() { c.front.Stop() })
	return c
}

func (c *controller) start() {
	c.t.Helper()
	var err error
	if c.authority, err = ca.Open(c.dir, "cluster.local"); err != nil {
		c.t.Fatal(err)
	}
	cfg, err := TLSConfig(c.authority, nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		c.t.Fatal(err)
	}
	authenticate := c.auth
	if authenticate == nil {
		authenticate = c.authority.Authenticate
	}
	c.server = New(Options{
		Authority: c.authority, Authenticate: authenticate, NodeLifetime: c.lifetime, WorkloadLifetime: time.Hour, Log: c.log, Observer: c.observer, Leader: c.leader,
	})
	c.front = newFront(cfg, c.limits, c.isNode, c.server.Register)
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.listener = l
	front := c.front
	go func() { _ = front.Serve(l) }()
}

func (c *controller) restart() {
	c.front.Stop()
	c.listener.Close() // Serve may not have begun yet
	c.version = 0
	c.start()
}

func (c *controller) publish(workloads []*mesh.Workload, services ...*mesh.Service) {
	c.version++
	c.server.Publish(NewSnapshot(c.version, Content{
		Workloads: workloads, Services: services, Anchors: c.server.anchors(),
	}, c.server.Snapshot()))
}

// agent starts a Client for node and stops it at the end of the test.
func (c *controller) agent(node string, edit ...func(*client.Options)) *agent {
	authority := c.authority // as of the agent's start: it may ask during a restart
	pem := authority.AnchorsPEM()
	opt := client.Options{
		Controller: c.addr, Node: node, Token: func() (string, error) { return authority.BootstrapToken(node), nil },
		Anchors: func() ([]byte, error) { return pem, nil },
		Store:   state.NewStore(node), Log: quiet(),
	}
	for _, e := range edit {
		e(&opt)
	}
	a := &agent{t: c.t, Client: client.New(opt), store: opt.Store, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(a.done)
		_ = a.Run(ctx)
	}()
	a.stop = func() { cancel(); <-a.done }
	c.t.Cleanup(a.stop)
	return a
}

type agent struct {
	*client.Client
	t     testing.TB
	store *state.Store
	stop  func()
	done  chan struct{}
}

// until waits for cond to hold for the agent's state.
func (a *agent) until(what string, cond func(*state.View) bool) {
	a.t.Helper()
	changed, cancel := a.store.Watch()
	defer cancel()
	deadline := time.After(10 * time.Second)
	for {
		if cond(a.store.View()) {
			return
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond): // cond may depend on other things than the store
		case <-deadline:
			a.t.Fatalf("not within 10 s: %s; status %+v, state %+v", what, a.Status(), a.store.View().Dump())
		}
	}
}

func (a *agent) untilConnected() {
	a.t.Helper()
	a.until("connected", func(*state.View) bool { return a.Connected() })
}

func (a *agent) resolve(addr netip.Addr) *state.View {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Second)
	defer cancel()
	if err := a.Resolve(ctx, addr); err != nil {
		a.t.Fatal(err)
	}
	return a.store.View()
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func csr(t testing.TB) []byte {
	_, der := keyAndCSR(t)
	return der
}

func keyAndCSR(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}
