package l7proxy

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// What is refused before an endpoint is chosen must be found by whoever taps
// the server: `tap deploy/web` shows who is denied.
func TestDeniedNamesItsServer(t *testing.T) {
	web := &mesh.Workload{Name: "web-1", Identity: mesh.Identity{TrustDomain: "d", Namespace: "n", ServiceAccount: "web"}}
	rec := &h2recorder{}
	s := &Session{
		proxy:     New(Options{Tap: rec, Log: slog.New(slog.DiscardHandler)}),
		Direction: mesh.Inbound,
		Source:    tap.Peer{Workload: &mesh.Workload{Name: "outsider"}},
		Original:  netip.MustParseAddrPort("10.0.0.7:80"),
		target:    newInboundTarget(web, false),
	}
	want := tap.Peer{Addr: s.Original, Workload: web, Identity: web.Identity}

	var x Exchange
	x.Begin(s, 1, RequestLine{Method: "GET"})
	x.End(End{Reason: mesh.ReasonNoIdentity})
	if len(rec.ends) != 1 || rec.ends[0].Destination != want {
		t.Errorf("request: ends %+v, want destination %+v", rec.ends, want)
	}
	if e := s.connEvent(nil); e.Destination != want {
		t.Errorf("connection: destination %+v, want %+v", e.Destination, want)
	}
}
