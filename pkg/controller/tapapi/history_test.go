package tapapi

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/fakeagent"
)

// pastCalls makes agents remember calls that were a while ago, six in each minute since then.
// Further agents have had no traffic in that time.
func pastCalls(since time.Duration, client, server *mesh.Workload, agents ...*fakeagent.Agent) {
	now := time.Now()
	for _, a := range agents {
		a.Memory = figures.NewStore(figures.Options{}, now.Add(-since))
	}
	for t := now.Add(-since); t.Before(now); t = t.Add(figures.Window) {
		e := tap.Event{
			Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http2", Status: 200, Latency: 5 * time.Millisecond,
			Source: tap.Peer{Workload: client}, Destination: tap.Peer{Workload: server}, Service: &mesh.Service{Namespace: server.Namespace, Name: server.OwnerName},
		}
		for _, a := range agents {
			a.Memory.Rotate(t)
			if a.Name == client.Node {
				a.Memory.Emit(&e)
			}
		}
		e.Direction, e.Service = mesh.Inbound, nil
		for _, a := range agents {
			if a.Name == server.Node {
				a.Memory.Emit(&e)
			}
		}
	}
	for _, a := range agents {
		a.Stop()
		a.Restart()
	}
}

// TestHistory: a question for more than agents remember is answered by the controller.
func TestHistory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "history")
	w := newWorld(t, func(o *Options) { o.History = History{Bytes: 1 << 20, File: file} })
	w.mu.Lock()
	w.starting = true
	w.mu.Unlock()
	a, b := w.agent("a"), w.agent("b")
	db, cron := b.Workload("data", "db-1", "db"), b.Workload("jobs", "cron-1", "cron")
	pastCalls(14*time.Minute, a.Workload("shop", "web-a", "web"), db, a, b)
	w.mu.Lock()
	w.workloads = append(w.workloads, db, cron)
	w.starting = false
	w.mu.Unlock()

	var f tapv1alpha1.Figures
	for deadline := time.Now().Add(20 * time.Second); len(f.Edges) == 0; time.Sleep(50 * time.Millisecond) {
		var code int
		var text string
		if f, code, text = w.figures("root", "", "window=1h&step=60"); code != http.StatusOK || time.Now().After(deadline) {
			t.Fatalf("%d %s, want the last minutes", code, text)
		}
	}
	if len(f.Edges) != 1 || !f.History || f.StepSeconds != 60 || len(f.Edges[0].Points) != 60 || f.End.Sub(f.Start) != time.Hour {
		t.Fatalf("%+v, want an hour by minutes, with one edge", f)
	}
	minutes := f.CoveredSeconds / 60
	if len(f.Gaps) != 1 || !f.Gaps[0].Start.Equal(f.Start) || !f.Gaps[0].End.Equal(f.Since) || minutes < 11 || minutes > 14 {
		t.Errorf("gaps %+v, since %v, %d minutes are covered; want one gap until then, and 11 to 14", f.Gaps, f.Since, minutes)
	}
	for i, p := range f.Edges[0].Points {
		at := f.Start.Add(time.Duration(i) * time.Minute)
		if inGap := at.Before(f.Gaps[0].End); inGap != (p == nil) || p != nil && p.Requests != 6 {
			t.Errorf("point %d: %+v, in the gap: %v; want 6 requests, or null in the gap", i, p, inGap)
		}
	}
	if f.Nodes != (tapv1alpha1.Nodes{Asked: 2, Answered: 2}) || len(f.Warnings) != 0 {
		t.Errorf("%+v, warnings %q", f.Nodes, f.Warnings)
	}

	// The side, the kind and the namespace count as in every question.
	for query, want := range map[string]int{"side=destination": 1, "to=deploy/db&to-namespace=data": 1, "kind=deployment&name=cron": 0, "by=namespace": 1, "kind=svc&name=db": 1, "protocol=grpc": 0} {
		if f, code, text := w.figures("root", "", "window=6h&"+query); code != http.StatusOK || !f.History || len(f.Edges) != want {
			t.Errorf("%s: %d %s, want %d edges from the history", query, code, text, want)
		}
	}
	// What agents remember, and what is about pods, is asked of the agents.
	for _, query := range []string{"window=15m", "window=1h&by=pod", "window=1h&kind=pod&name=web-a", "window=1h&from=pod/web-a"} {
		if f, code, text := w.figures("root", "", query); code != http.StatusOK || f.History {
			t.Errorf("%s: %d %s, want the answer of the agents", query, code, text)
		}
	}
	past := "window=1m&end=" + time.Now().Add(-20*time.Minute).UTC().Format(time.RFC3339)
	if f, code, text := w.figures("root", "", past); code != http.StatusOK || !f.History || len(f.Edges) > 0 || f.CoveredSeconds > 0 {
		t.Errorf("%s: %d %s, want nothing but a gap from the history", past, code, text)
	}

	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		return review.ResourceAttributes.Resource == "figures" && review.ResourceAttributes.Namespace == "jobs"
	}
	f, code, text := w.figures("ann", "jobs", "window=6h")
	if diff := cmp.Diff([]string(nil), lines(&f)); diff != "" || code != http.StatusOK || strings.Contains(text, "web") {
		t.Errorf("%d %s, want nothing of other namespaces", code, text)
	}
	if _, code, text := w.figures("ann", "", "window=6h"); code != http.StatusForbidden {
		t.Errorf("%d %s, want 403", code, text)
	}
	if bytes, edges, ok := w.server.HistoryStats(); !ok || bytes < 100 || edges != 2 {
		t.Errorf("%d bytes, %d edges, %v; want 2 edges: both sides report", bytes, edges, ok)
	}
}

// TestHistorySide: the history counts what the side has reported that is asked for, whatever the
// window: the client's agent knows of three times as many calls here.
func TestHistorySide(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.History = History{Bytes: 1 << 20} })
	w.mu.Lock()
	w.starting = true
	w.mu.Unlock()
	a, b := w.agent("a"), w.agent("b")
	client, server := a.Workload("shop", "web-a", "web"), b.Workload("data", "db-1", "db")
	began := time.Now().Add(-14 * time.Minute)
	for _, agent := range []*fakeagent.Agent{a, b} {
		agent.Memory = figures.NewStore(figures.Options{}, began)
	}
	for at := began; at.Before(time.Now()); at = at.Add(figures.Window) {
		e := tap.Event{
			Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http2", Status: 200, Latency: 5 * time.Millisecond,
			Source: tap.Peer{Workload: client}, Destination: tap.Peer{Workload: server},
		}
		a.Memory.Rotate(at)
		b.Memory.Rotate(at)
		for range 3 {
			a.Memory.Emit(&e)
		}
		e.Direction = mesh.Inbound
		b.Memory.Emit(&e)
	}
	for _, agent := range []*fakeagent.Agent{a, b} {
		agent.Stop()
		agent.Restart()
	}
	w.mu.Lock()
	w.workloads = append(w.workloads, server)
	w.starting = false
	w.mu.Unlock()
	perMinute := func(query string) uint64 {
		f, code, text := w.figures("root", "", query)
		if code != http.StatusOK || !f.History {
			t.Fatalf("%s: %d %s, want an answer of the history", query, code, text)
		}
		if len(f.Edges) == 0 {
			return 0
		}
		return f.Edges[0].Total.Requests / uint64(f.CoveredSeconds/60)
	}
	for deadline := time.Now().Add(20 * time.Second); perMinute("window=1h") == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no history, want the last minutes")
		}
	}
	for query, want := range map[string]uint64{
		"window=1h": 18, "window=1h&side=source": 18, "window=1h&side=destination": 6, "window=6h&side=destination&step=300": 6,
		"window=24h&side=destination&by=namespace": 6, "window=16m&side=destination&namespace=data": 6, "window=24h&side=source&namespace=data": 18,
	} {
		if got := perMinute(query); got != want {
			t.Errorf("%s: %d requests a minute, want %d", query, got, want)
		}
	}
}

// TestNoHistory: without a history the agents answer with what they have.
func TestNoHistory(t *testing.T) {
	w, _, _ := twoNamespaces(t)
	f, code, text := w.figures("root", "", "window=6h")
	if code != http.StatusOK || f.History || f.Since.IsZero() || len(f.Edges) != 2 {
		t.Errorf("%d %s, want what the agents remember, and since when", code, text)
	}
	if _, _, ok := w.server.HistoryStats(); ok {
		t.Error("there is a history, want none")
	}
}
