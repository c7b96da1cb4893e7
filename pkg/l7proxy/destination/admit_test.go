package destination

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// TestRateLimits: at the server's node, for all clients together and for each,
// but never for probes.
func TestRateLimits(t *testing.T) {
	hourly := func(n int) *mesh.RateLimit { return &mesh.RateLimit{Count: 1, Period: time.Hour, Burst: n} }
	web := &mesh.Workload{UID: "web", Name: "web", Settings: mesh.Settings{RateLimit: hourly(5), ClientRateLimit: hourly(2)}}
	store := state.NewStore("node-1")
	apply := func(version uint64, w *mesh.Workload) {
		t.Helper()
		err := store.Apply(state.Delta{Version: version, Synced: true, Resources: []state.Resource{
			{Name: state.WorkloadName(w.UID), Version: time.Duration(version).String(), Workload: w},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	apply(1, web)
	d := newDirectory(store)
	ask := func(client string, fromNode bool) mesh.Reason {
		var a endpoints.Attempt
		err := d.Inbound(web, netip.MustParseAddrPort("10.0.0.1:80"), fromNode).Pick(&a, Query{Client: &tap.Peer{
			Addr: netip.MustParseAddrPort("10.0.0.2:1"), Identity: mesh.Identity{TrustDomain: "td", Namespace: "ns", ServiceAccount: client},
		}})
		if err != nil {
			return upstream.ReasonOf(err)
		}
		a.Done()
		return mesh.ReasonNone
	}
	for i, step := range []struct {
		client string
		node   bool
		want   mesh.Reason
	}{
		{"a", false, 0},
		{"a", false, 0},
		{"a", false, mesh.ReasonRateLimited}, // its own limit, which costs the others nothing
		{"a", false, mesh.ReasonRateLimited},
		{"b", false, 0},
		{"b", false, 0},
		{"c", false, 0},
		{"d", false, mesh.ReasonRateLimited}, // all together
		{"", true, 0},
	} {
		if got := ask(step.client, step.node); got != step.want {
			t.Errorf("request %d, of %s: %v, want %v", i, step.client, got, step.want)
		}
	}
	more := *web
	more.Settings.RateLimit = hourly(1)
	apply(2, &more)
	if got := ask("e", false); got != mesh.ReasonNone {
		t.Errorf("after the limit changed: %v", got)
	}
	if got := ask("e", false); got != mesh.ReasonRateLimited {
		t.Errorf("above the new limit: %v", got)
	}
	none := *web
	none.Settings = mesh.Settings{}
	apply(3, &none)
	if got := ask("e", false); got != mesh.ReasonNone {
		t.Errorf("without a limit: %v", got)
	}
	d.rateLimits.forget(func(string) bool { return false })
	if len(d.rateLimits.byPod) != 0 {
		t.Error("limits of pods that are gone are kept")
	}
}

// newDirectory is a directory of what store has.
func newDirectory(store *state.Store) *Directory {
	log := slog.New(slog.DiscardHandler)
	return New(Options{
		State: &proxytest.State{Store: store}, Network: &proxytest.Network{}, Log: log,
		Endpoints: endpoints.New(endpoints.Options{Log: log, Lifetime: lifetime.New()}),
	})
}
