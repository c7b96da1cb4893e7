package routestatus

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/apitest"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/customclient"
	"github.com/underlane/underlane/pkg/controller/translate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	then  = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	later = metav1.NewTime(then.Add(time.Hour))
)

func parent(name string, by gatewayv1.GatewayController, accepted metav1.ConditionStatus, at metav1.Time) gatewayv1.RouteParentStatus {
	return gatewayv1.RouteParentStatus{
		ParentRef: gatewayv1.ParentReference{Name: gatewayv1.ObjectName(name)}, ControllerName: by,
		Conditions: []metav1.Condition{{Type: "Accepted", Status: accepted, Reason: "R", LastTransitionTime: at}},
	}
}

func TestMerge(t *testing.T) {
	type parents = []gatewayv1.RouteParentStatus
	const ours, other = translate.ControllerName, "example.com/other"
	yes := func(name string) gatewayv1.RouteParentStatus {
		return parent(name, ours, metav1.ConditionTrue, metav1.Time{})
	}
	extra := parent("a", ours, metav1.ConditionTrue, then)
	extra.Conditions = append(extra.Conditions, metav1.Condition{Type: "example.com/Extra", Status: metav1.ConditionTrue, LastTransitionTime: then})
	for name, c := range map[string]struct {
		now, want, merged parents
		changed           bool
	}{
		"first":       {nil, parents{yes("a")}, parents{parent("a", ours, metav1.ConditionTrue, later)}, true},
		"same":        {parents{parent("a", ours, metav1.ConditionTrue, then)}, parents{yes("a")}, parents{parent("a", ours, metav1.ConditionTrue, then)}, false},
		"flipped":     {parents{parent("a", ours, metav1.ConditionFalse, then)}, parents{yes("a")}, parents{parent("a", ours, metav1.ConditionTrue, later)}, true},
		"others stay": {parents{parent("g", other, metav1.ConditionFalse, then)}, parents{yes("a")}, parents{parent("g", other, metav1.ConditionFalse, then), parent("a", ours, metav1.ConditionTrue, later)}, true},
		"ours goes":   {parents{parent("a", ours, metav1.ConditionTrue, then), parent("g", other, metav1.ConditionTrue, then)}, nil, parents{parent("g", other, metav1.ConditionTrue, then)}, true},
		"only others": {parents{parent("g", other, metav1.ConditionTrue, then)}, nil, parents{parent("g", other, metav1.ConditionTrue, then)}, false},
		"nothing":     {nil, nil, parents{}, false},
		"twice":       {parents{parent("a", ours, metav1.ConditionTrue, then), parent("a", ours, metav1.ConditionTrue, then)}, parents{yes("a")}, parents{parent("a", ours, metav1.ConditionTrue, then)}, true},
		"extra":       {parents{extra}, parents{yes("a")}, parents{extra}, false},
	} {
		before, _ := json.Marshal(c.now)
		merged, changed := Merge(c.now, c.want, later, 32)
		if diff := cmp.Diff(c.merged, merged); diff != "" || changed != c.changed {
			t.Error(name, changed, diff)
		}
		if after, _ := json.Marshal(c.now); string(before) != string(after) {
			t.Error(name, "changed what it was given")
		}
	}
}

// fixture is a Writer that leads, and an API server with one route.
type fixture struct {
	*Writer
	t       *testing.T
	server  *apitest.Server
	clients *customclient.Clients
	client  rest.Interface // of routes
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, server: apitest.New(t)}
	f.server.Install("httproutes", true)
	var err error
	if f.clients, err = customclient.New(f.server.Config()); err != nil {
		t.Fatal(err)
	}
	f.client = f.clients.Of(custom.HTTPRoutes.GroupVersions()[0])
	body, _ := json.Marshal(map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": map[string]any{"name": "r"},
		"spec":   map[string]any{"hostnames": []string{"stays.example.com"}},
		"status": map[string]any{"parents": []gatewayv1.RouteParentStatus{parent("g", "example.com/other", metav1.ConditionTrue, then)}},
	})
	if err := f.client.Post().Namespace("shop").Resource("httproutes").Body(body).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	f.Writer = New(f.clients, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Lead(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

func (f *fixture) route() *gatewayv1.HTTPRoute {
	f.t.Helper()
	var r gatewayv1.HTTPRoute
	if err := f.client.Get().Namespace("shop").Resource("httproutes").Name("r").Do(f.t.Context()).Into(&r); err != nil {
		f.t.Fatal(err)
	}
	return &r
}

// say updates the writer with the route as it is now.
func (f *fixture) say(accepted metav1.ConditionStatus) {
	f.Update(&translate.Objects{HTTPRoutes: []*gatewayv1.HTTPRoute{f.route()}}, []translate.RouteStatus{{
		Kind: translate.KindHTTPRoute, Namespace: "shop", Name: "r",
		Parents: []gatewayv1.RouteParentStatus{parent("a", translate.ControllerName, accepted, metav1.Time{})},
	}})
}

func (f *fixture) until(what string, cond func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("not within 20 s: %s: %+v", what, f.route().Status)
		}
	}
}

func (f *fixture) accepted() metav1.ConditionStatus {
	for _, p := range f.route().Status.Parents {
		if p.ControllerName == translate.ControllerName {
			return p.Conditions[0].Status
		}
	}
	return ""
}

func TestStatusIsWrittenOnce(t *testing.T) {
	f := newFixture(t)
	f.say(metav1.ConditionTrue)
	f.until("written", func() bool { return f.accepted() == metav1.ConditionTrue })
	r := f.route()
	if len(r.Status.Parents) != 2 || r.Status.Parents[0].ControllerName != "example.com/other" || len(r.Spec.Hostnames) != 1 {
		t.Errorf("got %+v", r)
	}
	for range 10 {
		f.say(metav1.ConditionTrue)
	}
	f.say(metav1.ConditionFalse)
	f.until("written again", func() bool { return f.accepted() == metav1.ConditionFalse })
	if n := f.server.Requests("PATCH httproutes"); n != 2 {
		t.Errorf("%d patches", n)
	}
	f.Update(&translate.Objects{HTTPRoutes: []*gatewayv1.HTTPRoute{f.route()}}, nil)
	f.until("taken back", func() bool { return f.accepted() == "" })
	if got := f.route().Status.Parents; len(got) != 1 {
		t.Errorf("left: %+v", got)
	}
}

// TestAncestors: a policy's status has the shape of a route's, under another
// name.
func TestAncestors(t *testing.T) {
	f := newFixture(t)
	f.server.Install("xbackendtrafficpolicies", true)
	client := f.clients.Of(custom.BackendTrafficPolicies.GroupVersions()[0])
	body, _ := json.Marshal(map[string]any{
		"metadata": map[string]any{"name": "p"},
		"status":   map[string]any{"ancestors": toAncestors([]gatewayv1.RouteParentStatus{parent("g", "example.com/other", metav1.ConditionTrue, then)})},
	})
	if err := client.Post().Namespace("shop").Resource("xbackendtrafficpolicies").Body(body).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	now := func() *gatewayx.XBackendTrafficPolicy {
		var p gatewayx.XBackendTrafficPolicy
		if err := client.Get().Namespace("shop").Resource("xbackendtrafficpolicies").Name("p").Do(t.Context()).Into(&p); err != nil {
			t.Fatal(err)
		}
		return &p
	}
	for range 3 {
		f.Update(&translate.Objects{TrafficPolicies: []*gatewayx.XBackendTrafficPolicy{now()}}, []translate.RouteStatus{{
			Kind: "XBackendTrafficPolicy", Namespace: "shop", Name: "p",
			Parents: []gatewayv1.RouteParentStatus{parent("web", translate.ControllerName, metav1.ConditionTrue, metav1.Time{})},
		}})
		f.until("written", func() bool { return len(now().Status.Ancestors) == 2 })
	}
	got := now().Status.Ancestors
	if got[0].ControllerName != "example.com/other" || got[1].AncestorRef.Name != "web" || got[1].Conditions[0].Status != metav1.ConditionTrue {
		t.Errorf("got %+v", got)
	}
	if n := f.server.Requests("PATCH xbackendtrafficpolicies"); n != 1 {
		t.Errorf("%d patches", n)
	}
}

func TestFailedWritesAreTriedAgain(t *testing.T) {
	f := newFixture(t)
	route := f.route()
	f.server.Refuse("httproutes", true)
	f.Update(&translate.Objects{HTTPRoutes: []*gatewayv1.HTTPRoute{route}}, []translate.RouteStatus{{
		Kind: translate.KindHTTPRoute, Namespace: "shop", Name: "r",
		Parents: []gatewayv1.RouteParentStatus{parent("a", translate.ControllerName, metav1.ConditionTrue, metav1.Time{})},
	}})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, failed := f.Stats(); failed > 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not tried twice")
		}
	}
	f.server.Refuse("httproutes", false)
	f.until("written", func() bool { return f.accepted() == metav1.ConditionTrue })
}

// TestChasingSlowsDown: what another program replaces again and again is written less and less
// often, and what is new soon.
func TestChasingSlowsDown(t *testing.T) {
	this := []gatewayv1.RouteParentStatus{parent("a", translate.ControllerName, metav1.ConditionTrue, metav1.Time{})}
	other := []gatewayv1.RouteParentStatus{parent("a", translate.ControllerName, metav1.ConditionFalse, metav1.Time{})}
	now := time.Now()
	for again, want := range map[int]time.Duration{0: quiet, 1: 2 * quiet, 3: 8 * quiet, 100: longest} {
		w := write{at: now.Add(-time.Millisecond), what: this, again: again}
		if got := w.wait(this, now); got != want-time.Millisecond {
			t.Errorf("after %d: got %v, want %v", again, got, want)
		}
		if got := w.wait(other, now); got != quiet-time.Millisecond {
			t.Errorf("another status waits for %v", got)
		}
	}
	if got := (&write{}).wait(this, now); got > 0 {
		t.Errorf("the first waits for %v", got)
	}
}

// TestNobodyIsChased: against a writer that puts back what it wants, there is
// at most a write a second.
func TestNobodyIsChased(t *testing.T) {
	f := newFixture(t)
	old := f.route()
	status := []translate.RouteStatus{{
		Kind: translate.KindHTTPRoute, Namespace: "shop", Name: "r",
		Parents: []gatewayv1.RouteParentStatus{parent("a", translate.ControllerName, metav1.ConditionTrue, metav1.Time{})},
	}}
	body, _ := json.Marshal(map[string]any{"status": map[string]any{"parents": old.Status.Parents}})
	start := time.Now()
	for time.Since(start) < 1500*time.Millisecond {
		if err := f.client.Patch("application/merge-patch+json").Namespace("shop").Resource("httproutes").Name("r").
			SubResource("status").Body(body).Do(t.Context()).Error(); err != nil {
			t.Fatal(err)
		}
		f.Update(&translate.Objects{HTTPRoutes: []*gatewayv1.HTTPRoute{old}}, status)
		time.Sleep(5 * time.Millisecond)
	}
	if n, _ := f.Stats(); n < 1 || n > uint64(time.Since(start)/quiet)+1 {
		t.Errorf("%d writes in %s", n, time.Since(start))
	}
}
