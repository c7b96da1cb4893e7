package telemetry

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestConnectionsOfRequests: each connection of the proxy that carries requests counts for
// one peer, in the direction of its pod. The only one between two pods of a node counts
// for both peers of the server, too.
func TestConnectionsOfRequests(t *testing.T) {
	const (
		toVoting  = `deployment="web",direction="outbound",dst_namespace="ns",dst_pod="voting-0",dst_statefulset="voting",namespace="ns",peer="dst",pod="web-1",server_id="spiffe://cluster.local/ns/ns/sa/voting",`
		ofVoting  = `namespace="ns",peer="src",pod="voting-0",statefulset="voting",`
		inVoting  = `direction="inbound",namespace="ns",peer="dst",pod="voting-0",statefulset="voting"} `
		fromWeb   = `client_id="spiffe://cluster.local/ns/ns/sa/web",direction="inbound",` + ofVoting
		ofService = `authority="voting-svc.ns.svc.cluster.local",deployment="web",direction="outbound",dst_namespace="ns",dst_pod="voting-0",dst_service="voting-svc",dst_statefulset="voting",namespace="ns",peer="src",pod="web-1"} `
	)
	// As the proxy reports them: what leads to the server knows no Service, and the
	// client's own connection says nothing about the peer.
	toServer := func(e *tap.Event) { e.Side, e.Service, e.Authority = tap.ServerSide, nil, "" }
	toClient := func(e *tap.Event) { e.Side, e.TLS = tap.ClientSide, tap.TLSNoIdentity }
	inbound := func(change func(*tap.Event)) func(*tap.Event) {
		return func(e *tap.Event) { change(e); e.Direction = mesh.Inbound }
	}
	for name, tc := range map[string]struct {
		event func(*tap.Event)
		// Labels of the series, for each the bytes that are read and written.
		want map[string][2]string
	}{
		"outbound, client":           {toClient, map[string][2]string{ofService: {"10", "20"}}},
		"outbound, server":           {toServer, map[string][2]string{toVoting + `tls="true"} `: {"20", "10"}}},
		"inbound, server":            {inbound(toServer), map[string][2]string{inVoting: {"20", "10"}}},
		"inbound, client":            {inbound(func(e *tap.Event) { e.Side = tap.ClientSide }), map[string][2]string{fromWeb + `tls="true"} `: {"10", "20"}}},
		"inbound, client outside":    {inbound(func(e *tap.Event) { toClient(e); e.Source = tap.Peer{} }), map[string][2]string{`direction="inbound",` + ofVoting + `tls="no-identity"} `: {"10", "20"}}},
		"outbound, server, one node": {func(e *tap.Event) { toServer(e); e.TLS = tap.TLSSameNode }, map[string][2]string{toVoting + `tls="same-node"} `: {"20", "10"}, fromWeb + `tls="same-node"} `: {"10", "20"}, inVoting: {"20", "10"}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Options{})
			var want []string
			for range 2 {
				m.Emit(event(tap.LegOpen, tc.event))
			}
			m.Emit(event(tap.Grown, func(e *tap.Event) { tc.event(e); e.ReadBytes, e.WriteBytes = 4, 5 }))
			m.Emit(event(tap.LegClose, func(e *tap.Event) { tc.event(e); e.Counted = tap.Counted{ReadBytes: 4, WriteBytes: 5} }))
			for labels, bytes := range tc.want {
				want = append(want,
					"tcp_open_total{"+labels+"2", "tcp_open_connections{"+labels+"1",
					"tcp_read_bytes_total{"+labels+bytes[0], "tcp_write_bytes_total{"+labels+bytes[1],
					"tcp_close_total{"+`classification="success",`+labels+"1", "tcp_connection_duration_ms_count{"+labels+"1")
			}
			slices.Sort(want)
			got := scrape(t, m, "tcp_open", "tcp_close", "tcp_read", "tcp_write", "tcp_connection_duration_ms_count")
			for i, line := range got { // the order of the labels
				if rest, ok := strings.CutPrefix(line, "tcp_close_total{"); ok {
					got[i] = `tcp_close_total{classification="success",` + strings.Replace(rest, `classification="success",`, "", 1)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestConnectionsAreOneSeries: requests and opaque bytes between the same two pods count in
// the same series. A second series with these labels would fail the whole scrape.
func TestConnectionsAreOneSeries(t *testing.T) {
	m := New(Options{})
	for _, kind := range []tap.Kind{tap.ConnOpen, tap.LegOpen, tap.ConnClose, tap.LegClose} {
		for _, side := range []tap.Side{tap.ClientSide, tap.ServerSide} {
			m.Emit(event(kind, func(e *tap.Event) { e.Side, e.TLS = side, tap.TLSSameNode }))
		}
	}
	if got := scrape(t, m, `tcp_open_total{`); len(got) == 0 {
		t.Error("no connections in the scrape")
	}
}
