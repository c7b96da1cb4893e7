package telemetry

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestPodCosts: each pod has its series in both directions, and they go away with it. Pods
// of one name share them.
func TestPodCosts(t *testing.T) {
	side := Cost{Processor: 1500 * time.Millisecond, Waited: 250 * time.Millisecond, Waits: 7, Connections: 3, Descriptors: 6, Bytes: 4096}
	a := &agent{stats: Stats{PodCosts: []PodCost{
		{Namespace: "shop", Name: "db-0", Weight: 39, Sides: [2]Cost{mesh.Inbound: side}},
		{Namespace: "shop", Name: "db-0", Weight: 5, Sides: [2]Cost{mesh.Inbound: {Processor: time.Second, Connections: 1}}},
	}}}
	m := New(Options{Agent: a, MaxPods: 10})
	want := []string{
		`underlane_pod_buffered_bytes{direction="inbound",namespace="shop",pod="db-0"} 4096`,
		`underlane_pod_buffered_bytes{direction="outbound",namespace="shop",pod="db-0"} 0`,
		`underlane_pod_connections{direction="inbound",namespace="shop",pod="db-0"} 4`,
		`underlane_pod_connections{direction="outbound",namespace="shop",pod="db-0"} 0`,
		`underlane_pod_descriptors{direction="inbound",namespace="shop",pod="db-0"} 6`,
		`underlane_pod_descriptors{direction="outbound",namespace="shop",pod="db-0"} 0`,
		`underlane_pod_processor_seconds_total{direction="inbound",namespace="shop",pod="db-0"} 2.5`,
		`underlane_pod_processor_seconds_total{direction="outbound",namespace="shop",pod="db-0"} 0`,
		`underlane_pod_wait_seconds_total{direction="inbound",namespace="shop",pod="db-0"} 0.25`,
		`underlane_pod_wait_seconds_total{direction="outbound",namespace="shop",pod="db-0"} 0`,
		`underlane_pod_waits_total{direction="inbound",namespace="shop",pod="db-0"} 7`,
		`underlane_pod_waits_total{direction="outbound",namespace="shop",pod="db-0"} 0`,
		`underlane_pod_weight{namespace="shop",pod="db-0"} 39`,
		`underlane_pods_without_metrics 0`,
	}
	if diff := cmp.Diff(want, scrape(t, m, "underlane_pod_", "underlane_pods_")); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
	a.stats.PodCosts = nil
	if diff := cmp.Diff([]string{`underlane_pods_without_metrics 0`}, scrape(t, m, "underlane_pod_", "underlane_pods_")); diff != "" {
		t.Errorf("when the pod has ended (-want +got):\n%s", diff)
	}
}

// TestPodBudget: not more pods than may have metrics have them, those that have them keep
// them while they are there, and the others are counted.
func TestPodBudget(t *testing.T) {
	a := &agent{}
	m := New(Options{Agent: a, MaxPods: 2})
	for _, tt := range []struct{ pods, want []string }{
		{[]string{"b", "c"}, []string{"b", "c"}},
		{[]string{"a", "b", "c", "d"}, []string{"b", "c"}},
		{[]string{"a", "c", "d"}, []string{"a", "c"}},
		{[]string{"a", "c", "d"}, []string{"a", "c"}},
	} {
		a.stats.PodCosts = nil
		for _, name := range tt.pods {
			a.stats.PodCosts = append(a.stats.PodCosts, PodCost{Namespace: "n", Name: name})
		}
		var want []string
		for _, name := range tt.want {
			want = append(want, fmt.Sprintf(`underlane_pod_weight{namespace="n",pod=%q} 0`, name))
		}
		want = append(want, fmt.Sprintf("underlane_pods_without_metrics %d", len(tt.pods)-len(tt.want)))
		got := scrape(t, m, "underlane_pod_weight", "underlane_pods_")
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pods %v (-want +got):\n%s", tt.pods, diff)
		}
	}
}
