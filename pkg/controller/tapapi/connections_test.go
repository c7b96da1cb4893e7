package tapapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/wire"
	"github.com/underlane/underlane/test/fakeagent"
)

// openOf is a connection as an agent tells of it. client and server are the agent's sockets,
// LOCAL>REMOTE, or "".
func openOf(e tap.Event, client, server string) *agentv1.OpenConnection {
	ends := func(text string) *agentv1.OpenConnection_Ends {
		local, remote, ok := strings.Cut(text, ">")
		if !ok {
			return nil
		}
		return &agentv1.OpenConnection_Ends{Local: local, Remote: remote}
	}
	e.Kind = tap.ConnOpen
	e.Legs = &tap.Legs{Client: tap.Leg{SRTT: time.Millisecond, Received: 1}, Server: tap.Leg{SRTT: 2 * time.Millisecond, Sent: 1}}
	return &agentv1.OpenConnection{Event: wire.ToProto(&e), Client: ends(client), Server: ends(server)}
}

func peer(addr string, w *mesh.Workload) tap.Peer {
	return tap.Peer{Addr: netip.MustParseAddrPort(addr), Workload: w}
}

// openText is a connection of the answer as text.
func openText(c *tapv1alpha1.Connection, now time.Time) string {
	text := fmt.Sprintf("%s/%s > %s/%s %s", c.Source.Kind, c.Source.Name, c.Destination.Kind, c.Destination.Name, c.Secured)
	if c.Part != "" {
		text += " " + c.Part
	}
	if c.Since != nil {
		text += fmt.Sprintf(" for %.0fs", now.Sub(*c.Since).Seconds())
	}
	for _, l := range c.Legs {
		text += fmt.Sprintf(" [%s %s %s>%s]", l.Node, l.Part, l.Local, l.Remote)
	}
	return text
}

// connected is a cluster of two nodes where web-a (node a) has connections to db-1 (node b).
func connected(t *testing.T) (w *world, a, b *fakeagent.Agent) {
	w = newWorld(t)
	a, b = w.agent("a"), w.agent("b")
	web, db := w.workloads[0], b.Workload("data", "db-1", "db")
	web.Addrs, db.Addrs = []netip.Addr{netip.MustParseAddr("10.0.1.1")}, []netip.Addr{netip.MustParseAddr("10.0.2.1")}
	w.workloads = append(w.workloads, db)
	now := time.Now()
	opaque := tap.Event{
		TLS: tap.TLSTrue, Protocol: "tcp", Service: &mesh.Service{Namespace: "data", Name: "db-svc"}, Retransmits: 2, ReadBytes: 10, WriteBytes: 20, SRTT: time.Millisecond,
		Source: peer("10.0.1.1:40000", web), Destination: peer("10.0.2.1:5432", db), Time: now.Add(-time.Hour),
	}
	arrived := opaque
	arrived.Direction, arrived.Service = mesh.Inbound, nil
	arrived.Source = peer("10.0.1.1:41000", web) // the port of a's socket
	arrived.Source.Identity = web.Identity
	app := opaque // HTTP, before the endpoint is chosen
	app.Side, app.TLS, app.Protocol, app.Destination, app.Time = tap.ClientSide, tap.TLSNoIdentity, "http1", peer("10.96.0.1:80", nil), now.Add(-70*time.Second)
	toDB, atDB := opaque, arrived
	toDB.Side, toDB.Protocol, toDB.Service, toDB.Time = tap.ServerSide, "http1", nil, now.Add(-time.Minute)
	atDB.Side, atDB.Protocol, atDB.Time = tap.ClientSide, "http1", now.Add(-time.Minute)
	outside := tap.Event{Origin: tap.FromKernel, Direction: mesh.Inbound, TLS: tap.TLSNotProxied, Protocol: "tcp", Source: peer("192.0.2.1:99", nil), Destination: peer("10.0.2.1:5432", db)}
	direct := openOf(outside, "", "10.0.2.1:5432>192.0.2.1:99")
	direct.Event.Time = nil
	a.Open.Connections = []*agentv1.OpenConnection{
		openOf(opaque, "127.0.0.1:15001>10.0.1.1:40000", "10.0.1.1:41000>10.0.2.1:5432"),
		openOf(app, "127.0.0.1:15001>10.0.1.1:40001", ""),
		openOf(toDB, "", "10.0.1.1:41001>10.0.2.1:8080"),
	}
	// The clock of b is an hour ahead.
	for _, e := range []*tap.Event{&arrived, &atDB} {
		e.Time = e.Time.Add(time.Hour)
	}
	b.Open.Connections = []*agentv1.OpenConnection{
		direct,
		openOf(arrived, "10.0.2.1:5432>10.0.1.1:41000", "10.0.2.1:33333>10.0.2.1:5432"),
		openOf(atDB, "10.0.2.1:8080>10.0.1.1:41001", ""),
	}
	for _, x := range []*agentv1.ConnectionsResponse{a.Open, b.Open} {
		x.Time, x.Total = timestamppb.New(now), uint64(len(x.Connections))
	}
	b.Open.Time = timestamppb.New(now.Add(time.Hour))
	return w, a, b
}

const (
	openDirect = "external/ > deployment/db not-proxied [b wire 10.0.2.1:5432>192.0.2.1:99]"
	openOpaque = "deployment/web > deployment/db true for 3600s" + openAtWeb + openAtDB
	openAtWeb  = " [a application 127.0.0.1:15001>10.0.1.1:40000] [a wire 10.0.1.1:41000>10.0.2.1:5432]"
	openAtDB   = " [b wire 10.0.2.1:5432>10.0.1.1:41000] [b application 10.0.2.1:33333>10.0.2.1:5432]"
	openApp    = "deployment/web > service/db-svc same-node application for 70s [a application 127.0.0.1:15001>10.0.1.1:40001]"
	openHTTP   = "deployment/web > deployment/db true wire for 60s [a wire 10.0.1.1:41001>10.0.2.1:8080] [b wire 10.0.2.1:8080>10.0.1.1:41001]"
)

// connections asks for path as root.
func (w *world) connections(path string) (list tapv1alpha1.ConnectionList, got []string) {
	w.t.Helper()
	if code, text := w.list("root", path, &list); code != http.StatusOK {
		w.t.Fatalf("%s: %d %s, want 200", path, code, text)
	}
	for i := range list.Items {
		got = append(got, openText(&list.Items[i], list.Time))
	}
	return list, got
}

func TestConnections(t *testing.T) {
	w, _, _ := connected(t)
	for _, tc := range []struct {
		namespace, query string
		want             []string
	}{
		{"", "", []string{openDirect, openOpaque, openApp, openHTTP}},
		{"shop", "", []string{openOpaque, openApp, openHTTP}},
		{"data", "", []string{openDirect, openOpaque, openApp, openHTTP}}, // the Service is of it
		{"", "kind=deploy&name=web", []string{openOpaque, openApp, openHTTP}},
		{"data", "kind=pod&name=db-1", []string{openDirect, openOpaque, openHTTP}},
		{"", "kind=svc&name=db-svc", []string{openOpaque, openApp}},
		{"", "kind=ns&name=shop", []string{openOpaque, openApp, openHTTP}},
		{"", "node=b", []string{openDirect, openOpaque, openHTTP}},
		{"", "node=c", nil},
		{"nowhere", "", nil},
	} {
		if tc.namespace == "data" { // it has no pod on node a, which is not named therefore
			for i := range tc.want {
				tc.want[i] = strings.ReplaceAll(tc.want[i], "[a ", "[ ")
			}
		}
		list, got := w.connections(tapv1alpha1.ConnectionsPath(tc.namespace) + "?" + tc.query)
		if diff := cmp.Diff(tc.want, got); diff != "" || list.Total != len(tc.want) || len(list.Warnings) > 0 {
			t.Errorf("%s?%s: total %d, %q (-want +got):\n%s", tc.namespace, tc.query, list.Total, list.Warnings, diff)
		}
	}
	list, _ := w.connections(tapv1alpha1.ConnectionsPath("shop"))
	want := tapv1alpha1.Connection{
		Since:         list.Items[0].Since,
		Source:        tapv1alpha1.ConnectionEnd{Kind: "deployment", Namespace: "shop", Name: "web", Pod: "web-a", Identity: "spiffe://cluster.local/ns/shop/sa/web"},
		Destination:   tapv1alpha1.ConnectionEnd{Kind: "deployment", Namespace: "data", Name: "db", Pod: "db-1"},
		SourceAddress: "10.0.1.1:40000", DestinationAddress: "10.0.2.1:5432", Service: &tapv1alpha1.ServiceName{Namespace: "data", Name: "db-svc"},
		Protocol: "tcp", Secured: "true", SRTT: 1, Retransmits: 2, ReadBytes: 10, WriteBytes: 20, Node: "a", Legs: list.Items[0].Legs,
	}
	if diff := cmp.Diff(want, list.Items[0]); diff != "" {
		t.Error("(-want +got):", diff)
	}
	list, got := w.connections(tapv1alpha1.ConnectionsPath("") + "?limit=1")
	if len(got) != 1 || got[0] != openDirect || list.Total != 4 || len(list.Warnings) != 1 || !strings.Contains(list.Warnings[0], "4 connections") {
		t.Errorf("limit 1: %q of %d, %q; want the oldest of 4, and a warning", got, list.Total, list.Warnings)
	}
	for _, bad := range []string{"limit=0", "limit=x", "limit=10001", "kind=web", "name=web", "nmae=web"} {
		if code, text := w.body("root", tapv1alpha1.ConnectionsPath("")+"?"+bad); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s, want 400", bad, code, text)
		}
	}
}

// What one agent does not tell, the other one does as far as it knows; lies about pods of
// other nodes are not believed, and break nothing.
func TestConnectionsOfBadAgents(t *testing.T) {
	w, a, b := connected(t)
	web := w.workloads[0]
	well := b.Open
	// b says that it carries a connection of web, on node a, gives a's connection to db a
	// second end, and says what makes no sense.
	lie := openOf(tap.Event{TLS: tap.TLSTrue, Source: peer("10.0.1.1:1", web), Destination: peer("10.0.2.1:5432", nil)}, "", "10.0.1.1:1>10.0.2.1:5432")
	absurd := openOf(tap.Event{Direction: mesh.Inbound, TLS: tap.TLSTrue, Source: peer("10.0.1.1:41000", nil), Destination: peer("10.0.2.1:5432", w.workloads[2])}, "10.0.2.1:5432>10.0.1.1:41000", "")
	absurd.Event.Time, absurd.Event.Srtt = &timestamppb.Timestamp{Seconds: -62135596800}, &durationpb.Duration{Seconds: -100}
	b.Open = &agentv1.ConnectionsResponse{
		Time: well.Time, Total: 1 << 63,
		Connections: append([]*agentv1.OpenConnection{lie, absurd, {}, {Event: &agentv1.TapEvent{}}}, well.Connections...),
	}
	list, got := w.connections(tapv1alpha1.ConnectionsPath(""))
	warnings := strings.Join(list.Warnings, "\n")
	if !strings.Contains(warnings, "not believed") || strings.Contains(strings.Join(got, "\n"), "10.0.1.1:1>") {
		t.Errorf("%q, want not the lie; warnings %q, want one about it", got, warnings)
	}
	for _, want := range []string{openDirect, openApp, openHTTP} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("got %q, want also %q", got, want)
		}
	}
	b.Open = well

	b.Hangs.Store(true)
	list, got = w.connections(tapv1alpha1.ConnectionsPath(""))
	want := []string{"deployment/web > deployment/db true for 3600s" + openAtWeb, openApp, strings.Split(openHTTP, " [b")[0]}
	if diff := cmp.Diff(want, got); diff != "" || list.Nodes != (tapv1alpha1.Nodes{Asked: 2, Answered: 1}) || len(list.Warnings) != 1 {
		t.Errorf("b hangs: %+v, %q (-want +got):\n%s", list.Nodes, list.Warnings, diff)
	}
	b.Hangs.Store(false)
	a.Hangs.Store(true)
	_, got = w.connections(tapv1alpha1.ConnectionsPath(""))
	want = []string{openDirect, "deployment/web > deployment/db true for 3600s" + openAtDB, "deployment/web > deployment/db true wire for 60s [b wire 10.0.2.1:8080>10.0.1.1:41001]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a hangs (-want +got):\n%s", diff)
	}
}
