package l7proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestLegsOfRequests: both connections that requests pass are reported, each when it opens
// and when it closes, with what the kernel knew of it.
func TestLegsOfRequests(t *testing.T) {
	const requests = 3
	for name, http2 := range protocolsOfHTTP {
		t.Run(name, func(t *testing.T) {
			protocol := "http1"
			if http2 {
				protocol = "http2"
			}
			s := newShop(t)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "hello")
			}))
			srv.Config.Protocols = new(http.Protocols)
			srv.Config.Protocols.SetHTTP1(true)
			srv.Config.Protocols.SetUnencryptedHTTP2(true)
			srv.Start()
			defer srv.Close()
			addr := srv.Listener.Addr().String()
			s.service("apex", addr)
			client, url := clientOf(t, http2), "http://"+s.to(s.services["apex"].String())
			for range requests {
				if got := ask(t, client, http.MethodGet, url); got.body != "hello" {
					t.Fatalf("got %+v, want hello", got)
				}
			}
			if n := s.tap.Count(tap.LegOpen, mesh.ReasonNone); n != 2 {
				t.Errorf("%d connections opened, want one of the client and one to the server", n)
			}
			if n := s.tap.Count(tap.LegClose, mesh.ReasonNone); n != 0 {
				t.Errorf("%d connections closed before their end, want none", n)
			}
			checkLiveLegs(t, s.tap.Wait(t, tap.LegOpen, 0), s.tap.Wait(t, tap.LegOpen, 1))
			client.CloseIdleConnections()
			if e := s.tap.Wait(t, tap.LegClose, 0); e.Side != tap.ClientSide || e.Service == nil || e.Legs.Client.SRTT != e.SRTT || e.Legs.Server != (tap.Leg{}) {
				t.Errorf("got %+v with the legs %+v, want the end of the client's connection to the service", e, e.Legs)
			} else {
				checkLeg(t, &e, protocol, s.local)
			}
			srv.CloseClientConnections()
			proxytest.Eventually(t, "the connection to the server is closed", func() bool {
				s.proxy.upstream.CloseIdle(0)
				return s.tap.Count(tap.LegClose, mesh.ReasonNone) == 2
			})
			if e := s.tap.Wait(t, tap.LegClose, 1); e.Side != tap.ServerSide || e.Destination.Addr.String() != addr || e.Legs.Server.SRTT != e.SRTT || e.Legs.Client != (tap.Leg{}) {
				t.Errorf("got %+v with the legs %+v, want the end of the connection to the server", e, e.Legs)
			} else {
				checkLeg(t, &e, protocol, s.local)
			}
		})
	}
}

// checkLiveLegs asks connections that carry requests what they have carried.
func checkLiveLegs(t *testing.T, events ...tap.Event) {
	t.Helper()
	for _, e := range events {
		legs := e.Live.Legs()
		read, written := e.Live.Bytes()
		leg, other := legs.Client, legs.Server
		if e.Side == tap.ServerSide {
			leg, other = other, leg
			read, written = written, read
		}
		if read < 50 || written < 50 || leg.Received < 50 || leg.Received > read || leg.Sent < 50 || leg.Sent > written || leg.SRTT <= 0 || other != (tap.LiveLeg{}) {
			t.Errorf("%v leg: %d bytes received, %d sent, %+v and %+v; want those of requests and responses, a round-trip time, and one side", e.Side, read, written, leg, other)
		}
	}
}

func checkLeg(t *testing.T, e *tap.Event, protocol string, client *mesh.Workload) {
	t.Helper()
	switch {
	case e.Protocol != protocol || e.Source.Workload != client || e.Direction != mesh.Outbound:
		t.Errorf("%v leg: %+v, want %s of %s", e.Side, e, protocol, client.Name)
	case e.ReadBytes < 50 || e.WriteBytes < 50:
		t.Errorf("%v leg: %d bytes read from the client's side and %d written, want those of requests and responses", e.Side, e.ReadBytes, e.WriteBytes)
	case e.MinRTT <= 0 || e.MinRTT > e.SRTT:
		t.Errorf("%v leg: lowest round-trip time %v, want one up to %v", e.Side, e.MinRTT, e.SRTT)
	case e.SRTT <= 0 || e.SRTT > time.Second || e.Duration <= 0:
		t.Errorf("%v leg: round-trip time %v, duration %v; want both, on loopback", e.Side, e.SRTT, e.Duration)
	}
}

// checkLive asks an opaque connection what it has carried, and each of its sides.
func checkLive(t *testing.T, live tap.Live, read, written uint64) {
	t.Helper()
	var r, w uint64
	var legs tap.LiveLegs
	counted := func(l *tap.LiveLeg) bool { return l.Received+l.Sent == read+written }
	// Bytes are counted after they were written.
	proxytest.Eventually(t, "all bytes are counted", func() bool {
		r, w = live.Bytes()
		legs = live.Legs()
		return r == read && w == written && counted(&legs.Client) && counted(&legs.Server)
	})
	for side, leg := range map[string]tap.LiveLeg{"client": legs.Client, "server": legs.Server} {
		if leg.SRTT <= 0 || !leg.Local.IsValid() || !leg.Remote.IsValid() {
			t.Errorf("%s: %+v, want a round-trip time and addresses", side, leg)
		}
	}
}

// TestLegsOfAConnection: the end of an opaque connection tells of both sides, also if one
// of them was reset.
func TestLegsOfAConnection(t *testing.T) {
	for name, cut := range map[string]bool{"FIN": false, "reset": true} {
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			srv := b.accept()
			srv.send("welcome")
			c.expect("welcome")
			c.send("thanks")
			srv.expect("thanks")
			live := e.tap.Wait(t, tap.ConnOpen, 0).Live
			checkLive(t, live, 6, 7)
			if cut {
				_ = srv.SetLinger(0)
			}
			srv.Close()
			if !cut {
				c.expectEnd(nil)
				c.Close()
			}
			got := e.tap.Wait(t, tap.ConnClose, 0)
			if got.Reset != cut || got.Legs == nil {
				t.Fatalf("got %+v, want reset %v, and the legs", got, cut)
			}
			for side, leg := range map[string]tap.Leg{"client": got.Legs.Client, "server": got.Legs.Server} {
				if leg.SRTT <= 0 || leg.SRTT > time.Second {
					t.Errorf("%s: round-trip time %v, want one of loopback", side, leg.SRTT)
				}
			}
			if l := got.Legs.Client; l.Received != 6 || l.Sent != 7 {
				t.Errorf("client: %+v, want 6 bytes received and 7 sent", l)
			}
			if l := got.Legs.Server; l.Received != 7 || l.Sent != 6 {
				t.Errorf("server: %+v, want 7 bytes received and 6 sent", l)
			}
			if got.MinRTT <= 0 || got.MinRTT != got.Legs.Server.MinRTT {
				t.Errorf("lowest round-trip time %v, want that to the server, %v", got.MinRTT, got.Legs.Server.MinRTT)
			}
			if got.SRTT != got.Legs.Server.SRTT {
				t.Errorf("round-trip time %v, want that to the server, %v", got.SRTT, got.Legs.Server.SRTT)
			}
			if got.Live != live {
				t.Error("the close is of another connection than the open event")
			}
			checkLive(t, live, 6, 7) // it may be asked at the same time as the connection closes
		})
	}
}
