package l7proxy

import (
	"context"
	"net/netip"
	"sync"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// agents are the agents of two nodes, of a client's pod and a server's, on loopback.
type agents struct {
	t              testing.TB
	client, server *env
	pod            *mesh.Workload // the server's
	addr           netip.AddrPort // where clients connect to it
	apps           *appNetwork
}

// appNetwork makes the connections of the server's agent: those to the application go to
// another address than that of the pod, where the agent listens.
type appNetwork struct {
	*proxytest.Network

	mu      sync.Mutex
	app     netip.AddrPort
	clients map[netip.AddrPort]netip.AddrPort // the client that is shown, by the address of the agent's socket
}

// DialApp implements Network.
func (n *appNetwork) DialApp(ctx context.Context, into string, _, client netip.AddrPort) (*rawio.Conn, error) {
	n.mu.Lock()
	app := n.app
	n.mu.Unlock()
	c, err := n.Network.DialApp(ctx, into, app, client)
	if err == nil {
		n.mu.Lock()
		n.clients[c.Local()] = client
		n.mu.Unlock()
	}
	return c, err
}

// moves has later connections go to another application.
func (n *appNetwork) moves(app string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.app = mustAddr(app)
}

// clientOf is the address that an application sees instead of that of its peer.
func (n *appNetwork) clientOf(peer netip.AddrPort) netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clients[peer]
}

var (
	webIdentity = mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "web"}
	dbIdentity  = mesh.Identity{TrustDomain: "cluster.local", Namespace: "default", ServiceAccount: "db"}
)

// newAgents makes two agents, and has prepare called before they serve. The server's
// application is at app.
func newAgents(t testing.TB, app string, limits Limits, prepare ...func(*agents)) *agents {
	t.Helper()
	authority, err := ca.Open(t.TempDir(), "cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	a := &agents{t: t, client: newEnvOn(t, "node-1", limits), server: newEnvOn(t, "node-2", limits)}
	for e, id := range map[*env]mesh.Identity{a.client: webIdentity, a.server: dbIdentity} {
		e.proxy.Certs = managerOf(t, signer{authority}, id)
		e.proxy.upstream.Certs = e.proxy.Certs
		e.proxy.upstream.OpaqueStreams = upstream.ManyStreams
	}
	l := proxytest.ListenAt(t, netip.MustParseAddr("127.0.0.2"))
	a.addr = l.Addr()
	a.apps = &appNetwork{Network: a.server.network, app: mustAddr(app), clients: map[netip.AddrPort]netip.AddrPort{}}
	a.server.proxy.upstream.Network = a.apps
	a.client.local.Identity, a.client.local.Meshed = webIdentity, true
	a.pod = &mesh.Workload{UID: "db", Name: "db", Node: "node-2", Meshed: true, Enrolled: true, Identity: dbIdentity, Addrs: []netip.Addr{l.Addr().Addr()}}
	for _, e := range []*env{a.client, a.server} {
		a.apply(e, "1", a.client.local, a.pod)
	}
	for _, f := range prepare {
		f(a)
	}
	a.server.group.ServeInTurn(l, listener.Manner{}, func(c *rawio.Conn) listener.Rest { return a.server.proxy.ServeInbound(c, a.pod) })
	return a
}

// apply tells an agent about pods.
func (a *agents) apply(e *env, version string, pods ...*mesh.Workload) {
	a.t.Helper()
	var all []state.Resource
	for _, w := range pods {
		all = append(all, state.Resource{Name: state.WorkloadName(w.UID), Version: version, Workload: w})
		for _, addr := range w.Addrs {
			all = append(all, state.Resource{Name: state.AddressName(addr), Version: version, Address: &state.Address{Addr: addr}})
		}
	}
	if err := e.store.Apply(state.Delta{Synced: true, Resources: all}); err != nil {
		a.t.Fatal(err)
	}
}

// dial is a connection of the client to the server's pod.
func (a *agents) dial() *client { a.t.Helper(); return a.client.dial(a.addr.String()) }

// warm makes connections until one is shared, and ends them. connect makes one and ends it.
func (a *agents) warm(connect func()) {
	a.t.Helper()
	proxytest.Eventually(a.t, "a connection is shared", func() bool {
		connect()
		return a.client.proxy.upstream.Stats().Opaque > 0
	})
	proxytest.Eventually(a.t, "the stream is gone", func() bool { return a.streams() == 0 })
}

// warmEcho is warm for a server that echoes. to is where the client connects.
func (a *agents) warmEcho(to string) {
	a.t.Helper()
	a.warm(func() {
		if err := echoOnce(to); err != nil {
			a.t.Fatal(err)
		}
	})
}

// streams is the number of streams that the client's agent has open.
func (a *agents) streams() int { return a.client.proxy.upstream.Stats().OpaqueStreams }

// closed are the connections that an agent has reported as closed.
func closed(e *env) (all []tap.Event) {
	for _, one := range e.tap.Events() {
		if one.Kind == tap.ConnClose {
			all = append(all, one)
		}
	}
	return all
}

// streamsIf is the setting with streams, or without.
func streamsIf(streams bool) upstream.OpaqueStreams {
	if streams {
		return upstream.ManyStreams
	}
	return upstream.NoStreams
}
