package translate_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// compact prints a value without what is at its default.
func compact(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return err.Error()
	}
	text, _ = json.Marshal(pruned(tree))
	return string(text)
}

// pruned returns v without zero values; what is left of nothing is nil.
func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			if field = pruned(field); field == nil {
				delete(v, name)
			} else {
				v[name] = field
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			if v[i] = pruned(v[i]); v[i] == nil {
				v[i] = map[string]any{}
			}
		}
	case string, float64, bool:
		if v == "" || v == 0.0 || v == false {
			return nil
		}
	}
	return v
}

func renderRoutes(b *strings.Builder, r *translate.Result) {
	for _, route := range r.Routes {
		fmt.Fprintf(b, "route %s %s/%s\n  parent %s/%s:%d", route.Kind, route.Namespace, route.Name,
			route.Parent.Namespace, route.Parent.Name, route.Parent.Port)
		if route.Consumer() {
			fmt.Fprint(b, ", consumer")
		}
		fmt.Fprintf(b, "\n  created %s\n", route.Created.Format(time.RFC3339))
		for i, rule := range route.Rules {
			fmt.Fprintf(b, "  rule %d %s\n", i, rule.Name)
			for _, m := range rule.Matches {
				fmt.Fprintf(b, "    match %s\n", compact(m))
			}
			if f := compact(rule.Filters); f != "null" {
				fmt.Fprintf(b, "    filters %s\n", f)
			}
			for _, to := range rule.Backends {
				fmt.Fprintf(b, "    backend %s\n", compact(to))
			}
			if rule.Timeouts != (mesh.RouteTimeouts{}) {
				fmt.Fprintf(b, "    timeouts %s %s\n", rule.Timeouts.Request, rule.Timeouts.BackendRequest)
			}
			if rule.Retry != nil {
				fmt.Fprintf(b, "    retry %s\n", compact(rule.Retry))
			}
		}
	}
	for _, s := range r.RouteStatuses {
		fmt.Fprintf(b, "status %s %s/%s\n", s.Kind, s.Namespace, s.Name)
		for _, p := range s.Parents {
			fmt.Fprintf(b, "  %s by %s\n", compact(p.ParentRef), p.ControllerName)
			for _, c := range p.Conditions {
				fmt.Fprintf(b, "    %s=%s %s, generation %d: %s\n", c.Type, c.Status, c.Reason, c.ObservedGeneration, c.Message)
			}
		}
	}
}

// TestRoutesCompile: what translates is what the proxy can use.
func TestRoutesCompile(t *testing.T) {
	for _, path := range []string{"testdata/routes.yaml", "testdata/routes-broken.yaml", "testdata/splits.yaml", "testdata/annotations.yaml", "testdata/faults.yaml"} {
		r := translate.Translate(load(t, path), "cluster.local")
		if len(r.Routes) == 0 {
			t.Error(path, "has no routes")
		}
		if _, err := route.Compile(r.Routes); err != nil {
			t.Error(path, err)
		}
	}
}

// onRoute translates a route of one rule to a Service with port 80.
func onRoute(t *testing.T, rule gatewayv1.HTTPRouteRule) (*mesh.Route, []metav1.Condition) {
	t.Helper()
	o := load(t, "testdata/routes.yaml")
	o.GRPCRoutes = nil
	o.HTTPRoutes = []*gatewayv1.HTTPRoute{{
		ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "shop"},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
				Group: ref(gatewayv1.Group("")), Kind: ref(gatewayv1.Kind("Service")), Name: "web",
			}}},
			Rules: []gatewayv1.HTTPRouteRule{rule},
		},
	}}
	r := translate.Translate(o, "cluster.local")
	if len(r.RouteStatuses) != 1 || len(r.RouteStatuses[0].Parents) != 1 {
		t.Fatalf("statuses: %+v", r.RouteStatuses)
	}
	conditions := r.RouteStatuses[0].Parents[0].Conditions
	if len(r.Routes) == 0 {
		return nil, conditions
	}
	return r.Routes[0], conditions
}

// TestDurations are GEP-2257's.
func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "0h": 0, "1h": time.Hour, "1h30m": 90 * time.Minute, "30m1h": 90 * time.Minute, "250ms": 250 * time.Millisecond,
		"10s500ms": 10500 * time.Millisecond, "99999h": 99999 * time.Hour, "1h1m1s1ms": time.Hour + time.Minute + time.Second + time.Millisecond,
	} {
		r, _ := onRoute(t, gatewayv1.HTTPRouteRule{Timeouts: &gatewayv1.HTTPRouteTimeouts{Request: ref(gatewayv1.Duration(text))}})
		if r == nil || r.Rules[0].Timeouts.Request != want {
			t.Errorf("%s: got %+v, want %s", text, r, want)
		}
	}
	for _, text := range []string{"", "1", "1d", "-1s", "+1s", "1.5s", "1us", "1 s", "100000s", "1s1s1s1s1s", "s"} {
		r, conditions := onRoute(t, gatewayv1.HTTPRouteRule{Timeouts: &gatewayv1.HTTPRouteTimeouts{Request: ref(gatewayv1.Duration(text))}})
		if r.Rules[0].Filters.Invalid == "" || conditions[0].Reason != "UnsupportedValue" || conditions[0].Status != metav1.ConditionFalse {
			t.Errorf("%q: got %+v, %+v", text, r, conditions)
		}
	}
}

// TestCostlyExpressions: the status of a route names a regular expression that would cost too
// much.
func TestCostlyExpressions(t *testing.T) {
	r, conditions := onRoute(t, gatewayv1.HTTPRouteRule{Matches: []gatewayv1.HTTPRouteMatch{{
		Path: &gatewayv1.HTTPPathMatch{Type: ref(gatewayv1.PathMatchRegularExpression), Value: ref("/(a{40}b{40}c{40}){20}")},
	}}})
	if r.Rules[0].Filters.Invalid == "" || conditions[0].Reason != "UnsupportedValue" || conditions[0].Status != metav1.ConditionFalse || !strings.Contains(conditions[0].Message, "instructions") {
		t.Errorf("got %+v, %+v", r, conditions)
	}
}

// TestMirrorShares: nothing said is all, and none is none.
func TestMirrorShares(t *testing.T) {
	for name, c := range map[string]struct {
		percent  *int32
		fraction *gatewayv1.Fraction
		want     mesh.Fraction
	}{
		"all":         {want: mesh.Fraction{}},
		"none":        {percent: ref(int32(0)), want: mesh.Fraction{Denominator: 100}},
		"half":        {percent: ref(int32(50)), want: mesh.Fraction{Numerator: 50, Denominator: 100}},
		"fraction":    {fraction: &gatewayv1.Fraction{Numerator: 5, Denominator: ref(int32(1000))}, want: mesh.Fraction{Numerator: 5, Denominator: 1000}},
		"denominator": {fraction: &gatewayv1.Fraction{Numerator: 5}, want: mesh.Fraction{Numerator: 5, Denominator: 100}},
	} {
		r, _ := onRoute(t, gatewayv1.HTTPRouteRule{Filters: []gatewayv1.HTTPRouteFilter{{
			Type: gatewayv1.HTTPRouteFilterRequestMirror,
			RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{
				BackendRef: gatewayv1.BackendObjectReference{Name: "web-v2", Port: ref(int32(80))}, Percent: c.percent, Fraction: c.fraction,
			},
		}}})
		if r == nil || len(r.Rules[0].Filters.Mirrors) != 1 {
			t.Errorf("%s: got %+v", name, r)
			continue
		}
		if diff := cmp.Diff(c.want, r.Rules[0].Filters.Mirrors[0].Share, cmpopts.EquateEmpty()); diff != "" {
			t.Error(name, diff)
		}
	}
}
