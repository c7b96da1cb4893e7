package sample

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func world(n int) *World {
	return New(Options{Seed: 1, Workloads: n, Now: func() time.Time { return noon }})
}

func read[T any](t *testing.T, w *World, path string) T {
	t.Helper()
	recorder := httptest.NewRecorder()
	w.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	var out T
	if err := json.Unmarshal(recorder.Body.Bytes(), &out); err != nil || recorder.Code != http.StatusOK {
		t.Fatalf("%s: %d %v %.200s", path, recorder.Code, err, recorder.Body)
	}
	return out
}

// The same moment is the same figures, asked as now or as the past, and of another
// world of the same seed.
func TestMomentsStay(t *testing.T) {
	first := read[figures](t, world(50), "/figures?by=workload&window=5m&step=10&buckets=true")
	later := New(Options{Seed: 1, Workloads: 50, Now: func() time.Time { return noon.Add(time.Hour) }})
	again := read[figures](t, later, "/figures?by=workload&window=5m&step=10&buckets=true&end="+noon.Format(time.RFC3339))
	if diff := cmp.Diff(first, again, cmp.AllowUnexported(sums{}, edgeSums{})); diff != "" {
		t.Error(diff)
	}
	other := read[figures](t, New(Options{Seed: 2, Workloads: 50, Now: func() time.Time { return noon }}), "/figures?by=workload&window=5m")
	if cmp.Equal(first.Edges, other.Edges, cmp.AllowUnexported(sums{}, edgeSums{})) {
		t.Error("two seeds have the same edges, want others")
	}
}

// What is told of the world in the package comment is in it.
func TestWorldHasWhatItSays(t *testing.T) {
	f := read[figures](t, world(1000), "/figures?by=workload&window=5m&step=10")
	names := map[int]resource{}
	for _, r := range f.Resources {
		names[r.ID] = r
	}
	if len(names) < 900 {
		t.Errorf("%d resources with traffic, want 900 or more of 1000", len(names))
	}
	secured := map[string]int{}
	moves := false
	for _, e := range f.Edges {
		secured[e.Secured]++
		if names[e.Source].Name == "web" && names[e.Destination].Name == "voting" {
			if share := float64(e.Total.Success) / float64(e.Total.Requests); share > 0.95 || share < 0.6 {
				t.Errorf("of the votes %.2f are well, want about 0.84", share)
			}
			for _, p := range e.Points {
				moves = moves || p.Requests != e.Points[0].Requests
			}
			if len(e.Points) != 30 {
				t.Errorf("%d points, want 30 of ten seconds", len(e.Points))
			}
		}
	}
	if !moves {
		t.Error("the points of the votes are all alike, want figures that move")
	}
	for _, want := range []string{"true", "same-node", "no-identity", "agent-down", "not-proxied"} {
		if secured[want] == 0 {
			t.Errorf("no edge is %s: %v", want, secured)
		}
	}
	if f.Nodes.Answered != f.Nodes.Asked-1 || len(f.Warnings) != 1 {
		t.Errorf("%+v and %q, want one agent that does not answer", f.Nodes, f.Warnings)
	}
}

// The agent of a node that has started a moment ago has counted less, in less time.
func TestYoungAgent(t *testing.T) {
	options := Options{Seed: 1, Now: func() time.Time { return noon }}
	old := read[figures](t, New(options), "/figures?by=workload&namespace=emojivoto&window=5m&step=10")
	options.Young = true
	young := read[figures](t, New(options), "/figures?by=workload&namespace=emojivoto&window=5m&step=10")
	shorter := 0
	for i, e := range young.Edges {
		rate := float64(e.Total.Requests+e.Total.TCP.Opened) / 300
		if e.Covered > 0 {
			shorter++
			rate *= 300 / e.Covered
			if e.Covered != 90 || e.Points[0] != nil || e.Points[25] == nil {
				t.Errorf("an edge is of %v s, with %v as its first point and %v as that of the last minute, want 90, none and some", e.Covered, e.Points[0], e.Points[25])
			}
		}
		before := float64(old.Edges[i].Total.Requests+old.Edges[i].Total.TCP.Opened) / 300
		if old.Edges[i].Covered != 0 || rate < 0.6*before || rate > 1.6*before {
			t.Errorf("edge %d: %.2f a second, and %.2f where the agent is old, want about the same", i, rate, before)
		}
	}
	if shorter == 0 || shorter == len(young.Edges) || !young.Since.Equal(young.End.Add(-youngAge)) {
		t.Errorf("%d of %d edges are of less than the window, since %v: want some, since %v", shorter, len(young.Edges), young.Since, young.End.Add(-youngAge))
	}
}

// The weight of the canary goes up, and its requests with it.
func TestCanaryShifts(t *testing.T) {
	weightAt := func(at time.Time) (weight int, share float64) {
		w := New(Options{Seed: 1, Now: func() time.Time { return at }})
		rule := read[routes](t, w, "/routes?namespace=shop").Items[0].Rules[0]
		stable, canary := rule.Backends[0], rule.Backends[1]
		if canary.Name != "catalog-v2" {
			t.Fatalf("the second backend is %s, want catalog-v2", canary.Name)
		}
		return canary.Weight, float64(canary.Total.Requests) / float64(stable.Total.Requests+canary.Total.Requests)
	}
	begin := noon.Truncate(canaryPeriod)
	w1, s1 := weightAt(begin.Add(2 * time.Minute))
	w2, s2 := weightAt(begin.Add(8 * time.Minute))
	if w2 <= w1 || s2 <= s1 {
		t.Errorf("weights %d, then %d, shares %.2f, then %.2f: want more", w1, w2, s1, s2)
	}
}

func TestErrorsAreStatuses(t *testing.T) {
	for path, want := range map[string]int{
		"/figures?window=25h": 400, "/figures?end=yesterday": 400, "/figures?step=0": 400, "/figures?window=24h&step=1": 400, "/figures?namespase=shop": 400,
		"/figures?namespace=forbidden": 403, "/namespaces/forbidden/figures": 403, "/nothing": 404, "/watch/tap?metod=GET": 400,
	} {
		recorder := httptest.NewRecorder()
		world(0).Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		var status struct {
			Kind string
			Code int
		}
		if err := json.Unmarshal(recorder.Body.Bytes(), &status); err != nil || status.Kind != "Status" || status.Code != want || recorder.Code != want {
			t.Errorf("%s: %d %s %v, want a Status of %d", path, recorder.Code, recorder.Body, err, want)
		}
	}
}

func TestTap(t *testing.T) {
	server := httptest.NewServer(New(Options{Seed: 1}).Handler())
	defer server.Close()
	response, err := http.Get(server.URL + "/watch/namespaces/emojivoto/deployments/web/tap?to=deploy%2Fvoting&view=once")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(response.Body)
	for ends, failed := 0, 0; failed == 0; {
		var e struct {
			Destination      struct{ Metadata map[string]string }
			ResponseEndEvent *struct {
				Success bool
				Path    string
			}
		}
		if err := decoder.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.ResponseEndEvent == nil {
			continue
		}
		ends++
		if got := e.Destination.Metadata["deployment"]; got != "voting" {
			t.Fatalf("a call to %q, want only those to voting", got)
		}
		if !e.ResponseEndEvent.Success {
			failed++
			if !strings.HasSuffix(e.ResponseEndEvent.Path, "VoteDoughnut") {
				t.Fatalf("%s fails, want only votes for the doughnut", e.ResponseEndEvent.Path)
			}
		}
		if ends > 200 {
			t.Fatal("none of 200 calls fails, want some")
		}
	}
}

func BenchmarkFigures(b *testing.B) {
	for _, by := range []string{"namespace", "workload"} {
		b.Run(fmt.Sprint(by), func(b *testing.B) {
			h := world(1000).Handler()
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/figures?buckets=true&by="+by, nil))
			}
		})
	}
}
