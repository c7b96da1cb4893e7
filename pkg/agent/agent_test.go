package agent

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

func TestReadFile(t *testing.T) {
	read := func(text string, args ...string) (Config, error) {
		var c Config
		flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
		c.Flags(flags)
		if err := flags.Parse(args); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return c, ReadFile(path, flags)
	}
	c, err := read("node: from-file\ntrust-domain: example.org\ndrain-timeout: 3s\ncleanup: true\nnode-ip: [10.0.0.1, \"fd00::1\"]\n", "--node", "from-flag")
	if err != nil {
		t.Fatal(err)
	}
	if c.Node != "from-flag" || c.TrustDomain != "example.org" || c.DrainTimeout != 3*time.Second || !c.Cleanup {
		t.Errorf("config = %+v", c)
	}
	if want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}; !cmp.Equal(c.NodeIPs, want, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		t.Errorf("node-ip = %v, want %v", c.NodeIPs, want)
	}
	for text, want := range map[string]string{
		"nod: x\n":             `there is no setting "nod"`,
		"drain-timeout: soon":  "drain-timeout",
		"node: [\n":            "agent.yaml",
		"node: a\nnode: b\n":   "already set",
		"node-ip: 10.0.0.256":  "node-ip",
		"config: other.yaml\n": `there is no setting "config"`,
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestNodeAddresses(t *testing.T) {
	m := &meshState{nodes: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}
	if !m.IsNode(netip.MustParseAddr("::ffff:192.0.2.7")) || m.IsNode(netip.MustParseAddr("192.0.2.8")) {
		t.Error("an address that nobody vouches for, or not one that somebody does")
	}
}

func TestTranslate(t *testing.T) {
	web := &mesh.Workload{UID: "web", Namespace: "default", Name: "web", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}
	store := state.NewStore("node-1")
	a := &components{store: store, itself: mesh.NodeItself("node-1"), client: client.New(client.Options{Node: "node-1", Store: store, Log: slog.Default()})}
	own, other := netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("192.0.2.1:80")
	base := redirect.Event{Local: own, Remote: other, Sent: 10, Received: 20, Duration: time.Second, Process: "curl", Retransmits: 3}
	event := func(kind redirect.EventKind, server bool, err error) *redirect.Event {
		e := base
		e.Kind, e.Server, e.Err = kind, server, err
		return &e
	}
	out := tap.Event{
		Origin: tap.FromKernel, Direction: mesh.Outbound, TLS: tap.TLSNotProxied, Protocol: "tcp", Process: "curl", Retransmits: 3,
		Source: tap.Peer{Addr: own, Workload: web}, Destination: tap.Peer{Addr: other},
		ReadBytes: 10, WriteBytes: 20, Duration: time.Second,
	}
	with := func(change func(*tap.Event)) tap.Event {
		e := out
		change(&e)
		return e
	}
	for name, c := range map[string]struct {
		in   *redirect.Event
		want tap.Event
	}{
		"connected": {event(redirect.EventConnect, false, nil), with(func(e *tap.Event) { e.Kind = tap.ConnOpen })},
		"closed":    {event(redirect.EventClose, false, nil), with(func(e *tap.Event) { e.Kind = tap.ConnClose })},
		"accepted, seen from the client": {event(redirect.EventAccept, true, nil), with(func(e *tap.Event) {
			e.Kind, e.Direction = tap.ConnOpen, mesh.Inbound
			e.Source, e.Destination = out.Destination, out.Source
			e.ReadBytes, e.WriteBytes = 20, 10
		})},
		"of the node itself": {func() *redirect.Event {
			e := event(redirect.EventAccept, true, nil)
			e.FromNode = true
			return e
		}(), with(func(e *tap.Event) {
			e.Kind, e.Direction = tap.ConnOpen, mesh.Inbound
			e.Source, e.Destination = tap.Peer{Addr: other, Workload: a.itself}, out.Source
			e.ReadBytes, e.WriteBytes = 20, 10
		})},
		"reset":       {event(redirect.EventClose, false, unix.ECONNRESET), with(func(e *tap.Event) { e.Kind, e.Reason, e.Reset = tap.ConnClose, mesh.ReasonReset, true })},
		"refused":     {event(redirect.EventFailed, false, unix.ECONNREFUSED), failed(out, mesh.ReasonRefused)},
		"unreachable": {event(redirect.EventFailed, false, unix.EHOSTUNREACH), failed(out, mesh.ReasonUnreachable)},
		"given up":    {event(redirect.EventFailed, false, nil), failed(out, mesh.ReasonReset)},
	} {
		got := a.translate(c.in, web)
		if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.IgnoreFields(tap.Event{}, "Time"), cmpopts.IgnoreFields(tap.Peer{}, "Workload")); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
		if got.Source.Workload != c.want.Source.Workload || got.Destination.Workload != c.want.Destination.Workload {
			t.Errorf("%s: workloads %v and %v", name, got.Source.Workload, got.Destination.Workload)
		}
	}
	refused := base
	refused.Kind, refused.Local = redirect.EventRefused, netip.AddrPort{}
	got := a.translate(&refused, web)
	if got.Reason != mesh.ReasonFailClosed || got.Duration != 0 || got.Source.Addr.Addr() != own.Addr() {
		t.Errorf("refused by the kernel side: %+v, want %s from %s", got, mesh.ReasonFailClosed, own.Addr())
	}
}

func failed(e tap.Event, reason mesh.Reason) tap.Event {
	e.Kind, e.Reason, e.Reset, e.Duration = tap.ConnClose, reason, true, 0
	return e
}
