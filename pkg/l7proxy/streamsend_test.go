package l7proxy

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// lastClosed waits for n further connections that an agent reports as closed, and returns
// the last one.
func lastClosed(t *testing.T, e *env, n int) tap.Event {
	t.Helper()
	proxytest.Eventually(t, "it is reported as closed", func() bool { return len(closed(e)) >= n })
	all := closed(e)
	return all[len(all)-1]
}

// TestPolicyCutsOpaqueStreams: a stream is judged when it begins, and again when the policies
// of the pod change. It ends alone.
func TestPolicyCutsOpaqueStreams(t *testing.T) {
	a, b := warmed(t)
	g := &guardedPod{env: a.server, pod: a.pod, addr: a.addr, version: 1}
	c, srv := a.stream(b)
	before := len(closed(a.server))
	g.rule(allowFrom("10.9.9.9/32"))
	c.expectEnd(unix.ECONNRESET)
	srv.expectEnd(unix.ECONNRESET)
	if event := lastClosed(t, a.server, before+1); event.Reason != mesh.ReasonPolicyDenied {
		t.Errorf("the server's agent reports %q, want %q", event.Reason, mesh.ReasonPolicyDenied)
	}
	refused := a.dial()
	refused.send(opaqueBytes)
	refused.expectEnd(unix.ECONNRESET)
	if event := lastClosed(t, a.server, before+2); event.Reason != mesh.ReasonPolicyDenied || event.Source.Identity != webIdentity {
		t.Errorf("the server's agent reports %q of %s, want %q", event.Reason, event.Source.Identity, mesh.ReasonPolicyDenied)
	}
	g.rule(allowFrom("127.0.0.1/32"))
	c, srv = a.stream(b)
	srv.send("answer")
	c.expect("answer")
	if n := a.client.proxy.upstream.Stats().Opaque; n != 1 {
		t.Errorf("%d connections are shared, want the first one still", n)
	}
}

// TestPodEndsUnderOpaqueStreams: the client sees a reset, and tap the reason, as of a
// dedicated connection.
func TestPodEndsUnderOpaqueStreams(t *testing.T) {
	a, b := warmed(t)
	before := len(closed(a.client))
	c, srv := a.stream(b)
	srv.send("answer")
	c.expect("answer")
	a.client.network.End(a.addr.Addr())
	c.expectEnd(unix.ECONNRESET)
	if event := lastClosed(t, a.client, before+1); event.Reason != mesh.ReasonPodGone {
		t.Errorf("tap shows reason %q, want %q", event.Reason, mesh.ReasonPodGone)
	}
	srv.expectEnd(unix.ECONNRESET)
}

// TestRefusedOpaqueStream: what the application refuses is a reset for the client, as it is on
// a dedicated connection.
func TestRefusedOpaqueStream(t *testing.T) {
	a, _ := warmed(t)
	a.apps.moves(nobody(t))
	before := len(closed(a.server))
	c := a.dial()
	c.send(opaqueBytes)
	c.expectEnd(unix.ECONNRESET)
	if event := lastClosed(t, a.server, before+1); event.Reason != mesh.ReasonConnectRefused {
		t.Errorf("tap shows reason %q, want %q", event.Reason, mesh.ReasonConnectRefused)
	}
}

// TestDrainingServerOfOpaqueStreams: an agent that ends accepts no further stream, and those
// that are open go on.
func TestDrainingServerOfOpaqueStreams(t *testing.T) {
	a, b := warmed(t)
	c, srv := a.stream(b)
	shared := func() []*mux.Conn {
		var all []*mux.Conn
		a.server.proxy.muxes.Each(func(c *mux.Conn) { all = append(all, c) })
		return all
	}
	if len(shared()) != 1 {
		t.Fatalf("%d shared connections, want 1", len(shared()))
	}
	shared()[0].Drain()
	proxytest.Eventually(t, "the client's agent knows", func() bool { return a.client.proxy.upstream.Stats().Opaque == 0 })
	next := a.dial()
	next.send(opaqueBytes)
	other := b.request()
	other.expect(opaqueBytes)
	srv.send("answer")
	c.expect("answer")
	c.send("goes on")
	srv.expect("goes on")
	c.Close()
	srv.expectEnd(nil)
	srv.Close()
	proxytest.Eventually(t, "the drained connection has ended", func() bool { return len(shared()) <= 1 })
}

// TestAgentOfOpaqueStreamsIsLost: if the server's agent ends, so do the streams, and the next
// connection does not use what is left of theirs.
func TestAgentOfOpaqueStreamsIsLost(t *testing.T) {
	a, b := warmed(t)
	c, srv := a.stream(b)
	a.server.proxy.muxes.Each(func(c *mux.Conn) {
		_ = c.NC.Reset()
	})
	c.expectEnd(unix.ECONNRESET)
	srv.expectEnd(unix.ECONNRESET)
	proxytest.Eventually(t, "the client's agent knows", func() bool { return a.client.proxy.upstream.Stats().Opaque == 0 })
	next := a.dial()
	next.send(opaqueBytes)
	again := b.request()
	again.expect(opaqueBytes)
}
