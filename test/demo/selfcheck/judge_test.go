package selfcheck

import (
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/render"
	"github.com/underlane/underlane/pkg/tap/top"
	"github.com/underlane/underlane/test/demo/selfcheck/wire"
)

const podTable = `NAMESPACE  NAME                NODE    IP         IP6            READY  STATUS   RESTARTS
default    outsider            node-2  10.77.2.9  fd77:1:2::9    true   Running  0
emojivote  emoji-6d4-x1        node-1  10.77.1.3  fd77:1:1::3    true   Running  0
emojivote  web-5f7-x2          node-1  10.77.1.2  fd77:1:1::2    true   Running  0
emojivote  voting-77-x3        node-2  10.77.2.2  fd77:1:2::2    true   Running  0
emojivote  banner-88-x4        node-2  10.77.2.3  fd77:1:2::3    true   Running  0
emojivote  vote-bot-99-x5      node-2  10.77.2.4  fd77:1:2::4    true   Running  0
`

func testPods(t *testing.T) []Pod {
	t.Helper()
	pods, err := ParsePods(podTable)
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

func TestParsePods(t *testing.T) {
	pods := testPods(t)
	got := pods[3]
	want := Pod{Namespace, "voting-77-x3", "node-2", []netip.Addr{netip.MustParseAddr("10.77.2.2"), netip.MustParseAddr("fd77:1:2::2")}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"NAMESPACE NAME IP\na b\n", "NAMESPACE NAME IP\na b c\n"} {
		if _, err := ParsePods(bad); err == nil {
			t.Errorf("%q: got no error, want one", bad)
		}
	}
}

// tapEvent returns a finished request or connection between two deployments that
// prove their identities.
func tapEvent(client, server string, direction mesh.Direction, tls string) tap.Event {
	return tap.Event{
		Kind: tap.ResponseEnd, Direction: direction, TLS: tls,
		Source: peer(client), Destination: peer(server),
	}
}

func peer(deployment string) tap.Peer {
	id := mesh.Identity{TrustDomain: "cluster.local", Namespace: Namespace, ServiceAccount: deployment}
	return tap.Peer{
		Identity: id,
		Workload: &mesh.Workload{
			Name: deployment + "-1", Namespace: Namespace, ServiceAccount: deployment, Identity: id,
			OwnerKind: "deployment", OwnerName: deployment,
		},
	}
}

// goodTap returns the events of a demo without a fault.
func goodTap() []tap.Event {
	all := []tap.Event{
		tapEvent("web", "emoji", mesh.Outbound, tap.TLSSameNode),
		tapEvent("web", "voting", mesh.Outbound, tap.TLSTrue),
		tapEvent("web", "voting", mesh.Inbound, tap.TLSTrue),
		tapEvent("vote-bot", "web", mesh.Outbound, tap.TLSTrue),
		tapEvent("vote-bot", "web", mesh.Inbound, tap.TLSTrue),
		tapEvent("web", "banner", mesh.Outbound, tap.TLSTrue),
		tapEvent("web", "banner", mesh.Inbound, tap.TLSTrue),
	}
	all[5].Kind, all[6].Kind = tap.ConnClose, tap.ConnClose
	return all
}

// tapOutput returns what `agent tap -o json` prints for events.
func tapOutput(events []tap.Event) (out []byte) {
	for i := range events {
		line, err := render.JSON(&events[i])
		if err != nil {
			panic(err) // cannot fail for these types
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

func TestCheckIdentities(t *testing.T) {
	extra := func(e tap.Event, change func(*tap.Event)) []tap.Event {
		change(&e)
		return append(goodTap(), e)
	}
	begun, silent := goodTap(), goodTap()
	for i := range begun {
		begun[i].Kind = tap.RequestInit
	}
	for name, c := range map[string]struct {
		events []tap.Event
		want   string // part of the error; "" for none
	}{
		"good":                         {goodTap(), ""},
		"requests alone prove nothing": {begun, "web→emoji: tap showed 0"},
		"plaintext": {extra(tapEvent("web", "voting", mesh.Outbound, tap.TLSAgentDown), func(e *tap.Event) {
			e.Destination.Identity = mesh.Identity{}
		}), "tls=agent-down"},
		"around the proxy": {extra(tapEvent("web", "banner", mesh.Outbound, tap.TLSNotProxied), func(e *tap.Event) {
			e.Kind, e.Origin = tap.ConnClose, tap.FromKernel
		}), "tls=not-proxied"},
		"another's identity": {extra(tapEvent("vote-bot", "web", mesh.Inbound, tap.TLSTrue), func(e *tap.Event) {
			e.Source.Identity.ServiceAccount = "emoji"
		}), "sa/emoji"},
		"one side is silent": {silent[:6], "web→banner: tap showed 1 outbound and 0 inbound"},
	} {
		events, err := ParseTap(append(tapOutput(c.events), `{"source":{"cut of`...))
		if err != nil {
			t.Fatal(err)
		}
		saw, err := CheckIdentities(events)
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: saw %q, error %v; want error %q", name, saw, err, c.want)
		}
	}
	if _, err := ParseTap([]byte("no json\n")); err == nil {
		t.Error("a line that is not JSON: got no error, want one")
	}
}

// calls returns n requests for a path, all good or all failed.
func calls(client, server, path string, n int, good bool) []tap.Event {
	e := tapEvent(client, server, mesh.Outbound, tap.TLSTrue)
	e.Method, e.Path, e.Status, e.Duration = "POST", path, 200, time.Millisecond
	if !good {
		e.Status = 500
	}
	return slices.Repeat([]tap.Event{e}, n)
}

// topOutput returns what `agent top --once -o json` prints for events.
func topOutput(events ...[]tap.Event) []byte {
	table := top.NewTable(false, 0)
	for _, e := range slices.Concat(events...) {
		table.Add(&e)
	}
	var out bytes.Buffer
	if err := table.WriteJSON(&out, top.Order{By: top.Count}); err != nil {
		panic(err) // a buffer takes every write
	}
	return out.Bytes()
}

func TestCheckFailingVote(t *testing.T) {
	doughnut := calls("web", "voting", "/emojivote.v1.VotingService/VoteDoughnut", 31, false)
	page := append(calls("vote-bot", "web", "/api/vote?choice=%3Adoughnut%3A", 31, false),
		calls("vote-bot", "web", "/api/vote?choice=%3Apizza%3A", 60, true)...)
	pizza := calls("web", "voting", "/emojivote.v1.VotingService/VotePizza", 9, true)
	broken := calls("web", "emoji", "/emojivote.v1.EmojiService/ListAll", 40, false)
	open := []tap.Event{{Kind: tap.ConnOpen, Source: peer("web"), Destination: peer("banner")}}
	for name, c := range map[string]struct {
		output []byte
		good   bool
	}{
		"good":                   {topOutput(pizza, doughnut, open), true},
		"with the page's":        {topOutput(page, pizza, doughnut), true},
		"another fails too":      {topOutput(broken, doughnut), false},
		"the vote does not fail": {topOutput(pizza), false},
		"only the page's":        {topOutput(page, pizza), false},
		"the page fails always":  {topOutput(calls("vote-bot", "web", "/api/vote?choice=%3Apizza%3A", 60, false), doughnut), false},
		"nothing":                {topOutput(), false},
		"nothing ended":          {topOutput(open), false},
	} {
		rows, err := ParseTop(c.output)
		if err != nil {
			t.Fatal(err)
		}
		if saw, err := CheckFailingVote(rows); (err == nil) != c.good {
			t.Errorf("%s: saw %q, error %v; want success: %v", name, saw, err, c.good)
		}
	}
}

func TestCheckAtOnce(t *testing.T) {
	if saw, err := CheckAtOnce([]time.Duration{90e6, 60e6, 2e6}); err != nil {
		t.Errorf("two slow visits of three: got %q, %v; want no error", saw, err)
	}
	if saw, err := CheckAtOnce([]time.Duration{60e6, 51e6, 50e6}); err == nil {
		t.Errorf("three slow visits of three: got %q, want an error", saw)
	}
}

// packets is a capture of payloads from one pod's port to another's.
type packets struct{ bytes.Buffer }

func (p *packets) send(from, to string, payload []byte) *packets {
	frame := wire.NewFrame(wire.Segment{From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to), Payload: payload})
	if err := wire.WriteFrame(p, time.Unix(0, 0), frame); err != nil {
		panic(err) // a buffer takes every write
	}
	return p
}

// goodCapture returns a capture of a demo without a fault: encrypted records, and the
// request of the pod outside the mesh.
func goodCapture() *packets {
	sealed := append([]byte{23, 3, 3, 1, 0}, bytes.Repeat([]byte{0xa7, 0x3c}, 128)...)
	return new(packets).
		send("10.77.1.2:40000", "10.77.2.2:8080", sealed).
		send("[fd77:1:2::4]:40001", "[fd77:1:1::2]:8080", sealed).
		send("10.77.2.3:3306", "10.77.1.2:40002", sealed).
		send("10.77.1.2:40002", "10.77.2.3:3306", nil).
		send("10.77.2.9:40003", "10.77.1.2:8080", []byte("GET "+controlPath+" HTTP/1.1\r\n\r\n"))
}

func TestCheckEncrypted(t *testing.T) {
	path := hpack.AppendHuffmanString(nil, "/emojivote.v1.VotingService/VoteDoughnut")
	for name, c := range map[string]struct {
		capture *packets
		want    string // part of the error; "" for none
	}{
		"good":             {goodCapture(), ""},
		"empty":            {new(packets), "shows nothing"},
		"request line":     {goodCapture().send("10.77.2.4:40001", "10.77.1.2:8080", []byte("GET /api/vote?choice=:pizza: HTTP/1.1")), "/api/vote"},
		"Huffman-coded":    {goodCapture().send("10.77.1.2:40000", "10.77.2.2:8080", append(path, 0x40)), "VoteDoughnut"},
		"message":          {goodCapture().send("10.77.2.2:8080", "10.77.1.2:40000", []byte("\x0a\x06:taco:\x10\x02")), ":taco:"},
		"banner":           {goodCapture().send("10.77.2.3:3306", "10.77.1.2:40002", []byte("\x4a\x00\x00\x00\x0a8.0.99-underlane-demo\x00")), "underlane-demo"},
		"tunnel's port":    {goodCapture().send("10.77.1.2:40000", "10.77.2.2:15008", []byte("sealed")), "neither port"},
		"outsider's alone": {new(packets).send("10.77.2.9:40003", "10.77.1.2:8080", []byte(controlPath)), "no segment of"},
	} {
		saw, err := CheckEncrypted(c.capture, testPods(t))
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: saw %q, error %v; want error %q", name, saw, err, c.want)
		}
	}
	blind := &packets{}
	blind.Write(bytes.ReplaceAll(goodCapture().Bytes(), []byte("outside="), []byte("hidden.=")))
	if saw, err := CheckEncrypted(blind, testPods(t)); err == nil {
		t.Errorf("without the request of the pod outside the mesh: saw %q, want an error", saw)
	}
}

func TestWrite(t *testing.T) {
	var out bytes.Buffer
	if Write(&out, []Result{{"one", "all well", nil}, {"the second", "", os.ErrNotExist}}) {
		t.Error("with a failed check: good, want not good")
	}
	want := "   CHECK       SAW\n√  one         all well\n×  the second  file does not exist\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if !Write(&out, []Result{{"one", "all well", nil}}) || Write(&out, nil) {
		t.Error("want one good check to be good, and no check not to be")
	}
}
