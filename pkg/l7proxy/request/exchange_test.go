package request_test

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// newDirectory is a directory that knows nothing.
func newDirectory() *destination.Directory {
	log := slog.New(slog.DiscardHandler)
	return destination.New(destination.Options{
		State: &proxytest.State{Store: state.NewStore("node-1")}, Network: &proxytest.Network{}, Log: log,
		Endpoints: endpoints.New(endpoints.Options{Log: log, Lifetime: lifetime.New()}),
	})
}

// The client's tap tells why the server's agent refused; an application that
// is reached without mTLS cannot put words in its mouth.
func TestSaid(t *testing.T) {
	for tls, want := range map[string]mesh.Reason{
		tap.TLSTrue:       mesh.ReasonNoIdentity,
		tap.TLSNoIdentity: mesh.ReasonNone,
		tap.TLSSameNode:   mesh.ReasonNone,
	} {
		r := proxytest.NewRecorder()
		core := &request.Core{Tap: r}
		client := &mesh.Workload{UID: "client"}
		s := &request.Session{}
		s.Connection = request.Connection{
			Core: core, Direction: mesh.Outbound, Source: tap.Peer{Workload: client},
			Target: newDirectory().Outbound(client, netip.MustParseAddrPort("10.0.0.1:80"), func(wait func()) { wait() }),
		}
		var x request.Exchange
		x.Begin(s, 1, request.Line{})
		x.Chose(&endpoints.Attempt{Found: upstream.Result{TLS: tls}})
		x.PeerReason("no-identity")
		x.Response(403)
		x.End(request.End{})
		if got := r.Wait(t, tap.ResponseEnd, 0); got.Reason != want || got.Status != 403 {
			t.Errorf("tls=%s: reason %v, status %d; want %v", tls, got.Reason, got.Status, want)
		}
	}
}

// What is refused before an endpoint is chosen must be found by whoever taps
// the server: `tap deploy/web` shows who is denied.
func TestDeniedNamesItsServer(t *testing.T) {
	web := &mesh.Workload{Name: "web-1", Identity: mesh.Identity{TrustDomain: "d", Namespace: "n", ServiceAccount: "web"}}
	rec := proxytest.NewRecorder()
	addr := netip.MustParseAddrPort("10.0.0.7:80")
	s := &request.Session{}
	s.Connection = request.Connection{
		Core:      &request.Core{Tap: rec, State: &proxytest.State{Store: state.NewStore("node-1")}},
		Direction: mesh.Inbound,
		Source:    tap.Peer{Workload: &mesh.Workload{Name: "outsider"}},
		Original:  addr,
		Target:    newDirectory().Inbound(web, addr, false),
	}
	want := tap.Peer{Addr: s.Original, Workload: web, Identity: web.Identity}

	var x request.Exchange
	x.Begin(s, 1, request.Line{Method: "GET"})
	x.End(request.End{Reason: mesh.ReasonNoIdentity})
	if got := rec.Wait(t, tap.ResponseEnd, 0).Destination; got != want {
		t.Errorf("request: destination %+v, want %+v", got, want)
	}
	s.EmitConn(nil, tap.ConnClose, time.Now(), func(*tap.Event) {})
	if got := rec.Wait(t, tap.ConnClose, 0).Destination; got != want {
		t.Errorf("connection: destination %+v, want %+v", got, want)
	}
}
