package l7proxy

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestIdleRequests: a connection of HTTP/1 that waits for its next request for a while has no
// goroutine, and goes on as others do: with the next request, with a part of one, with the end or
// the reset of the client, when it is revoked, and when the proxy drains. It is reported as open
// until it has ended.
func TestIdleRequests(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, e *env, nc *client){
		"client closes": func(t *testing.T, _ *env, nc *client) {
			_ = nc.CloseWrite()
			nc.expectEnd(nil)
		},
		"client resets": func(t *testing.T, _ *env, nc *client) {
			_ = nc.SetLinger(0)
			nc.Close()
		},
		"revoked": func(t *testing.T, e *env, nc *client) {
			e.proxy.h1.Each(func(s *request.Session) { go s.Revoke(mesh.ReasonPolicyDenied) })
			if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("after it was revoked: %v", err)
			}
		},
		"drained": func(t *testing.T, e *env, nc *client) {
			e.proxy.Drain()
			nc.expectEnd(nil)
		},
		"closed after its wait": func(t *testing.T, e *env, nc *client) {
			nc.send(benchRequest[:5])
			e.untilParked(0)
			_ = nc.CloseWrite()
			nc.expectEnd(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := idleServer(t) // it ends after the proxy
			e := newEnv(t)
			nc := e.dial(addr)
			for range 3 {
				nc.send(benchRequest[:10])
				nc.send(benchRequest[10:])
				nc.expect(benchResponse)
				e.rest()
				if n := e.proxy.h1.Idle(); n != 1 {
					t.Errorf("%d sessions are idle, want 1", n)
				}
			}
			if n := e.tap.Count(tap.LegClose, mesh.ReasonNone); n != 0 {
				t.Errorf("%d connections are reported as closed, want none", n)
			}
			end(t, e, nc)
			proxytest.Eventually(t, "no session is left", func() bool {
				n := 0
				e.proxy.h1.Each(func(*request.Session) { n++ })
				return n == 0 && e.proxy.lot.Parked() == 0
			})
		})
	}
}

// rest has the session rest that waits for its next request.
func (e *env) rest() {
	e.t.Helper()
	proxytest.Eventually(e.t, "the session rests", func() bool {
		e.proxy.h1.Look(&e.proxy.lot)
		return e.proxy.lot.Parked() == 1
	})
}

// TestIdleRequestsSecure is TestIdleRequests for two agents: the connection between them, whose
// client is an agent, has no goroutine at the server's agent either, and is used again.
func TestIdleRequestsSecure(t *testing.T) {
	a := newAgents(t, idleServer(t), Limits{})
	nc := a.dial()
	for range 3 {
		nc.send(benchRequest)
		nc.expect(benchResponse)
		a.client.rest()
		a.server.rest()
	}
	if n := a.client.network.Dials(); n != 1 {
		t.Errorf("%d connections between the agents, want 1", n)
	}
	a.server.proxy.Drain() // it says farewell
	a.server.untilParked(0)
	_ = nc.CloseWrite()
	nc.expectEnd(nil)
}

// TestIdleRequestsPartner: a client that is no agent has connected to a pod of this node. Its
// connection rests, and ends with that of the application.
func TestIdleRequestsPartner(t *testing.T) {
	hangUp := make(chan struct{})
	app := serveConns(t, func(nc net.Conn) {
		buf := make([]byte, 256)
		if _, err := nc.Read(buf); err == nil {
			_, _ = io.WriteString(nc, benchResponse)
		}
		<-hangUp
	})
	a := newAgents(t, app, Limits{})
	nc := dialTCP(t, a.addr.String())
	nc.send(benchRequest)
	nc.expect(benchResponse)
	a.server.rest()
	close(hangUp)
	nc.expectEnd(nil)
}

// TestIdleRequestsRace: requests come at the moment at which the session is asked to rest.
func TestIdleRequestsRace(t *testing.T) {
	addr := idleServer(t)
	e := newEnv(t)
	nc := e.dial(addr)
	until := time.Now().Add(time.Second)
	rested := 0
	for n := 0; time.Now().Before(until); n++ {
		nc.send(benchRequest)
		nc.expect(benchResponse)
		e.proxy.h1.Look(&e.proxy.lot)
		e.proxy.h1.Look(&e.proxy.lot)
		if n%3 == 0 {
			time.Sleep(time.Duration(n%7) * 20 * time.Microsecond)
		}
		rested += e.proxy.lot.Parked()
	}
	if rested == 0 {
		t.Error("the session has never rested")
	}
}
