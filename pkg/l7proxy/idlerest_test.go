package l7proxy

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"golang.org/x/sys/unix"
)

// TestIdleOpaque: an opaque connection that has carried nothing for a while has no goroutine at
// either agent, and goes on as others do: with bytes, the ends of both sides, and when it is cut.
// It is reported and counted until it has ended.
func TestIdleOpaque(t *testing.T) {
	addr := serveConns(t, func(nc net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{nc}, make([]byte, 16))
		_, _ = nc.Write([]byte("bye"))
	})
	for name, streams := range map[string]bool{"dedicated": false, "stream": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgents(t, addr, Limits{}, func(a *agents) {
				a.client.proxy.upstream.OpaqueStreams = streamsIf(streams)
			})
			to := a.client.to(a.addr.String())
			directions := 2 // of the connection at each agent that need a goroutine
			if streams {
				a.warm(func() {
					nc := dialTCP(t, to)
					nc.send("\x00")
					nc.expect("\x00")
					_ = nc.CloseWrite()
					nc.expect("bye")
					nc.Close()
				})
				directions = 1
			}
			rest := func() {
				t.Helper()
				a.client.untilParked(directions)
				a.server.untilParked(directions)
			}
			opened := a.server.tap.Count(tap.ConnOpen, mesh.ReasonNone)
			open := func() *client {
				nc := dialTCP(t, to)
				for range 2 {
					nc.send("\x00beat")
					nc.expect("\x00beat")
					rest()
				}
				return nc
			}
			closed := func(e *env, reason mesh.Reason) {
				t.Helper()
				proxytest.Eventually(t, "its end is reported", func() bool {
					events := e.tap.Events()
					last := events[len(events)-1]
					return last.Kind == tap.ConnClose && last.Reason == reason && last.ReadBytes == 10 && last.WriteBytes >= 10
				})
				proxytest.Eventually(t, "no connection is open", func() bool {
					n := 0
					e.proxy.core.Opaque.Each(func(*request.Opaque) { n++ })
					return n == 0
				})
			}
			nc := open()
			_ = nc.CloseWrite()
			nc.expect("bye")
			if _, err := nc.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after the server's end: %v", err)
			}
			closed(a.client, mesh.ReasonNone)
			closed(a.server, mesh.ReasonNone)

			nc = open()
			a.server.proxy.core.Opaque.Each(func(o *request.Opaque) { go o.Session.Revoke(mesh.ReasonPolicyDenied) })
			_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("after it was revoked: %v", err)
			}
			closed(a.server, mesh.ReasonPolicyDenied)
			if n := a.server.tap.Count(tap.ConnOpen, mesh.ReasonNone) - opened; n != 2 {
				t.Errorf("%d connections were reported as open, want 2", n)
			}
		})
	}
}
