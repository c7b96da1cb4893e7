package table

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/wire"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestClocksApart: agents whose clocks are minutes ahead of the controller's, or behind it,
// answer a question about a moment with what happened in that moment by the controller's
// clock: in whole windows of ten seconds, and at most one window off where the difference is
// not a multiple of ten seconds.
func TestClocksApart(t *testing.T) {
	for _, odd := range []time.Duration{0, 4 * time.Second} {
		for _, apart := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute} {
			t.Run(fmt.Sprint(apart+odd), func(t *testing.T) { testClocks(t, apart+odd, odd > 0) })
		}
	}
}

func testClocks(t *testing.T, apart time.Duration, odd bool) {
	clocks := map[string]time.Duration{"node-1": apart, "node-2": -apart, "node-3": 0}
	stores := map[string]*figures.Store{}
	for node, ahead := range clocks {
		stores[node] = figures.NewStore(figures.Options{}, epoch.Add(ahead))
	}
	// For ten minutes each of three clients calls once a second, and in the fifth minute ten
	// times.
	server := pod("back", "api", "node-3", 1, true)
	const length = 10 * time.Minute
	for at := 500 * time.Millisecond; at < length; at += time.Second {
		n := 1
		if at > 4*time.Minute && at < 5*time.Minute {
			n = 10
		}
		for node, ahead := range clocks {
			stores[node].Rotate(epoch.Add(at + ahead))
			client := pod("shop", "web-"+node, node, 1, true)
			for range n {
				stores[node].Emit(&tap.Event{
					Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http2", Status: 200, Latency: time.Millisecond, Direction: mesh.Outbound,
					Source: tap.Peer{Workload: client}, Destination: tap.Peer{Workload: server},
				})
			}
		}
	}
	now := epoch.Add(length)
	ask := func(window, before time.Duration, step time.Duration) *tapv1alpha1.Figures {
		q := tapv1alpha1.FiguresQuery{By: tapv1alpha1.ByWorkload, Window: window, End: now.Add(-before), Step: step, Side: tapv1alpha1.SideSource}
		r, err := Request(&q, now)
		if err != nil {
			t.Fatal(err)
		}
		a := &Answers{Asked: len(stores)}
		for node, store := range stores {
			// The agent knows its own clock alone.
			theirs := now.Add(clocks[node])
			query, err := wire.Query(r, node, theirs)
			if err != nil {
				t.Fatal(err)
			}
			a.Results = append(a.Results, wire.FromProto(wire.ToProto(store.Query(query, theirs), node, wire.Skew(r, theirs), theirs)))
		}
		return Merge(&q, a, &Known{}, now)
	}
	// One window less or more of the burst, on either side of it, for each agent that is odd.
	slack := uint64(0)
	if odd {
		slack = 2 * 10 * 10
	}
	for name, tc := range map[string]struct {
		window, before time.Duration
		want           uint64
	}{
		"the last minute":     {time.Minute, 0, 3 * 60},
		"the minute before":   {time.Minute, 6 * time.Minute, 3 * 60},
		"the burst":           {time.Minute, 5 * time.Minute, 3 * 600},
		"ten seconds of it":   {10 * time.Second, 5*time.Minute + 20*time.Second, 3 * 100},
		"the burst and after": {2 * time.Minute, 4 * time.Minute, 3 * 660},
	} {
		f := ask(tc.window, tc.before, 0)
		got := requestsOf(f)
		if got+slack < tc.want || got > tc.want+slack {
			t.Errorf("%s: %d requests, want %d give or take %d", name, got, tc.want, slack)
		}
		if f.Since.After(epoch.Add(figures.Window)) || f.Since.Before(epoch.Add(-figures.Window)) {
			t.Errorf("%s: since %v, want %v: when the agents began, by the controller's clock", name, f.Since, epoch)
		}
	}
	f := ask(3*time.Minute, 4*time.Minute, time.Minute)
	for _, e := range f.Edges {
		var got []uint64
		for _, p := range e.Points {
			got = append(got, p.Requests)
		}
		near := cmp.Comparer(func(a, b uint64) bool { return a <= b+slack/2 && b <= a+slack/2 })
		if diff := cmp.Diff([]uint64{60, 600, 60}, got, near); diff != "" {
			t.Errorf("the points of %v (-want +got):\n%s", f.Resources[e.Source].Name, diff)
		}
	}
	if len(f.Edges) != len(stores) {
		t.Errorf("%d edges, want one of each client", len(f.Edges))
	}
}
