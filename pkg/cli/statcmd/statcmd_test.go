package statcmd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// TestAllKindsAtOnce: an agent that does not answer delays all kinds together, and is named
// once.
func TestAllKindsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hung = "node-2: its agent does not answer"
		s := &Source{
			Figures: func(_ context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
				time.Sleep(5 * time.Second)
				kind, _, _ := strings.Cut(q.To, "/")
				return &tapv1alpha1.Figures{Warnings: []string{hung}, Resources: []tapv1alpha1.Resource{{Kind: kind, Namespace: "shop", Name: "x-" + kind, Pods: 1, Meshed: 1}}}, nil
			},
			Resources: func(context.Context, tapv1alpha1.ResourcesQuery) (*tapv1alpha1.ResourceList, error) {
				time.Sleep(5 * time.Second)
				return &tapv1alpha1.ResourceList{Warnings: []string{hung}}, nil
			},
		}
		cmd := Stat(s)
		var out, errs bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&errs)
		cmd.SetArgs([]string{"all", "-o", "wide"})
		began := time.Now()
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 10*time.Second || strings.Count(errs.String(), hung) != 1 {
			t.Errorf("it took %v and warned %q; want 10 s and one warning", took, errs.String())
		}
		at := 0
		for _, k := range allKinds {
			i := strings.Index(out.String()[at:], "/x-"+string(k))
			if i < 0 {
				t.Fatalf("%s: want the rows of all kinds, in their order", out.String())
			}
			at += i
		}
	})
}

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"deploy":                 "deployment",
		"deploy/":                "deployment",
		"deploy/web":             "deployment web",
		"deploy web api":         "deployment web,api",
		"po/a deploy/web po/b":   "pod a,b; deployment web",
		"deploy sts/db":          "deployment; statefulset db",
		"deploy/ po/":            "deployment; pod",
		"rc/web":                 "replicationcontroller web",
		"ns":                     "namespace",
		"svc web svc":            "service web,svc", // names, as kubectl takes them
		"all":                    "deployment; statefulset; daemonset; replicaset; replicationcontroller; job; cronjob; pod; service",
		"httproute":              "httproute",
		"httproutes/a ts/b":      "httproute a; trafficsplit b",
		"grpcroute a b":          "grpcroute a,b",
		"ts Not_A_Name":          "error",
		"ts/":                    "trafficsplit",
		"web":                    "error",
		"deploy/web api":         "error",
		"deploy Not_A_Name":      "error",
		"deploy/web deploy/x/y ": "error",
	} {
		kinds, err := parse(strings.Fields(args))
		var texts []string
		for _, k := range kinds {
			texts = append(texts, strings.TrimSpace(string(k.Kind)+" "+strings.Join(k.Names, ",")))
		}
		got := strings.Join(texts, "; ")
		if err != nil {
			got = "error"
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("stat %s (-want +got):\n%s", args, diff)
		}
	}
}

// TestUnknownName: a name that nothing has is an error, after the rows of the others.
func TestUnknownName(t *testing.T) {
	s := &Source{
		Namespace: func(named string) (string, error) { return cmp.Or(named, "shop"), nil },
		Figures: func(_ context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
			return &tapv1alpha1.Figures{Resources: []tapv1alpha1.Resource{
				{Kind: "deployment", Namespace: "shop", Name: "web", Pods: 1, Meshed: 1},
				{Kind: "deployment", Namespace: "shop", Name: "plain", Pods: 1},
				{Kind: "service", Namespace: "shop", Name: "web"},
				{Kind: "namespace", Name: "shop", Pods: 1, Meshed: 1},
			}}, nil
		},
	}
	for args, want := range map[string]struct{ out, err string }{
		"deploy":                 {"web", ""},
		"deploy/web":             {"web", ""},
		"deploy/plain":           {"", ""},
		"deploy/nope":            {"", "no pod of deployment/nope is known in namespace shop"},
		"deploy web nope":        {"web", "no pod of deployment/nope is known in namespace shop"},
		"deploy/web -n other":    {"", "no pod of deployment/web is known in namespace other"},
		"deploy/web -n other -A": {"web", ""}, // as Linkerd: -n has no effect
		"svc/web":                {"web", ""},
		"svc/nope":               {"", "there is no service/nope in namespace shop"},
		"ns/shop":                {"shop", ""},
		"ns/nope":                {"", "no pod of namespace/nope is known"},
		"deploy --from svc/web":  {"", "a Service sends nothing"},
	} {
		cmd := Stat(s)
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(strings.Fields(args))
		err := cmd.ExecuteContext(t.Context())
		text := ""
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(out.String(), want.out) || (text != "") != (want.err != "") || !strings.Contains(text, want.err) {
			t.Errorf("stat %s: %q, error %q; want %q, %q", args, out.String(), text, want.out, want.err)
		}
	}
}

// TestRoutesQuestion: what routes asks for, with Linkerd's arguments and our own, and the form
// of its JSON, which is Linkerd's: viz/cmd/routes.go.
func TestRoutesQuestion(t *testing.T) {
	var asked tapv1alpha1.FiguresQuery
	s := &Source{
		Namespace: func(named string) (string, error) { return cmp.Or(named, "shop"), nil },
		Routes: func(_ context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.RouteList, error) {
			asked = q
			end := time.Unix(1_800_000_000, 0)
			rule := tapv1alpha1.RouteRule{Name: "0", Total: tapv1alpha1.RouteTotal{
				Effective: &tapv1alpha1.Sums{Requests: 60, Success: 60}, Actual: &tapv1alpha1.Sums{Requests: 120, Success: 60},
			}}
			quiet := tapv1alpha1.RouteRule{Name: "1", Total: tapv1alpha1.RouteTotal{Effective: &tapv1alpha1.Sums{}, Actual: &tapv1alpha1.Sums{}}}
			return &tapv1alpha1.RouteList{Start: end.Add(-time.Minute), End: end, Items: []tapv1alpha1.Route{{
				Kind: "HTTPRoute", Name: "r", Namespace: "shop", Parent: tapv1alpha1.ServiceName{Namespace: "shop", Name: "api"}, Rules: []tapv1alpha1.RouteRule{rule, quiet},
			}}}, nil
		},
	}
	in, out := `"success":1,"rps":1`, `"effective_success":1,"effective_rps":1,"actual_success":0.5,"actual_rps":2`
	for args, want := range map[string]struct {
		from, to, namespace string
		json                string // the key, and the numbers of the first row
		rows                int
		err                 string
	}{
		"":                                   {"", "", "shop", `{"service/api":[{"route":"r","authority":"api",` + in, 2, ""},
		"svc":                                {"", "", "shop", `{"service/api":[{"route":"r","authority":"api",` + in, 2, ""},
		"svc/api":                            {"", "", "shop", `{"service/api":[{"route":"r","authority":"api",` + in, 2, ""},
		"svc/other":                          {"", "", "shop", `{}`, 0, ""},
		"svc/api --from deploy/web":          {"deploy/web shop", "", "shop", `{"service/api":[{"route":"r","authority":"api",` + out, 2, ""},
		"deploy/web --to svc/api":            {"deployment/web shop", "", "shop", `{"deployment/web":[{"route":"r","authority":"api",` + out, 2, ""},
		"po --to svc/api --to-namespace two": {"pod shop", "", "two", `{"pod":[{"route":"r","authority":"api",` + out, 2, ""},
		"deploy/api":                         {"", "deployment/api shop", "shop", `{"deployment/api":[{"route":"r","authority":"api",` + in, 1, ""},
		"ns/two":                             {"", "namespace/two ", "two", `{"namespace/two":[{"route":"r","authority":"api",` + in, 1, ""},
		"deploy/web --to deploy/api":         {err: "routes are to Services"},
		"svc/web --to svc/api":               {err: "routes are to Services"},
		"deploy/web sts/db":                  {err: "give one resource"},
		"x/y":                                {err: "no kind"},
	} {
		cmd := Routes(s)
		var b bytes.Buffer
		cmd.SetOut(&b)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(append(strings.Fields(args), "-o", "json"))
		if err := cmd.ExecuteContext(t.Context()); err != nil || want.err != "" {
			if want.err == "" || err == nil || !strings.Contains(err.Error(), want.err) {
				t.Errorf("routes %s: error %v, want %q", args, err, want.err)
			}
			continue
		}
		ends := strings.TrimPrefix(asked.From+" "+asked.FromNamespace, " ") + "|" + strings.TrimPrefix(asked.To+" "+asked.ToNamespace, " ")
		if ends != want.from+"|"+want.to || asked.Namespace != want.namespace {
			t.Errorf("routes %s asked for %s in %s, want %s|%s in %s", args, ends, asked.Namespace, want.from, want.to, want.namespace)
		}
		var text bytes.Buffer
		if err := json.Compact(&text, b.Bytes()); err != nil || !strings.HasPrefix(text.String(), want.json) || strings.Count(text.String(), `"route":`) != want.rows {
			t.Errorf("routes %s: %s, %v; want %s… with %d rows", args, text.String(), err, want.json, want.rows)
		}
	}
}

// TestStatOfRoutes: routes have rows as Linkerd's stat has, a TrafficSplit one for each leaf.
func TestStatOfRoutes(t *testing.T) {
	end := time.Unix(1_800_000_000, 0)
	sums := func(requests, success uint64) *tapv1alpha1.Sums {
		return &tapv1alpha1.Sums{Requests: requests, Success: success, Failures: map[string]uint64{"status": requests - success}}
	}
	rule := func(name string, requests, success uint64, backends ...tapv1alpha1.RouteBackend) tapv1alpha1.RouteRule {
		return tapv1alpha1.RouteRule{Name: name, Total: tapv1alpha1.RouteTotal{Effective: sums(requests, success)}, Backends: backends}
	}
	api := tapv1alpha1.ServiceName{Namespace: "shop", Name: "api"}
	var asked tapv1alpha1.FiguresQuery
	s := &Source{
		Namespace: func(named string) (string, error) { return cmp.Or(named, "shop"), nil },
		Figures: func(context.Context, tapv1alpha1.FiguresQuery) (*tapv1alpha1.Figures, error) {
			return &tapv1alpha1.Figures{Resources: []tapv1alpha1.Resource{{Kind: "deployment", Namespace: "shop", Name: "web", Pods: 1, Meshed: 1}}}, nil
		},
		Routes: func(_ context.Context, q tapv1alpha1.FiguresQuery) (*tapv1alpha1.RouteList, error) {
			asked = q
			return &tapv1alpha1.RouteList{Start: end.Add(-time.Minute), End: end, Items: []tapv1alpha1.Route{
				{Kind: "HTTPRoute", Namespace: "shop", Name: "r", Parent: api, Rules: []tapv1alpha1.RouteRule{rule("0", 60, 60), rule("1", 60, 30)}},
				{Kind: "HTTPRoute", Namespace: "other", Name: "foreign", Parent: api, Rules: []tapv1alpha1.RouteRule{rule("0", 60, 60)}},
				{Kind: "GRPCRoute", Namespace: "shop", Name: "g", Parent: api, Rules: []tapv1alpha1.RouteRule{rule("0", 0, 0)}},
				{Kind: "TrafficSplit", Namespace: "shop", Name: "s", Parent: api, Rules: []tapv1alpha1.RouteRule{rule("0", 60, 45,
					tapv1alpha1.RouteBackend{Namespace: "shop", Name: "old", Weight: 90, Total: sums(45, 45)}, tapv1alpha1.RouteBackend{Namespace: "shop", Name: "new", Weight: 10, Total: sums(15, 0)})}},
				{Namespace: "shop", Parent: api, Rules: []tapv1alpha1.RouteRule{rule("", 6, 6)}},
			}}, nil
		},
	}
	for args, want := range map[string]struct{ out, err string }{
		"httproute":            {"NAME SERVICE SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 | r api 75.00% 2.0rps 0ms 0ms 0ms", ""},
		"httproute -A":         {"NAMESPACE NAME SERVICE SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 | other foreign api 100.00% 1.0rps 0ms 0ms 0ms | shop r api 75.00% 2.0rps 0ms 0ms 0ms", ""},
		"grpcroute/g -o wide":  {"NAME SERVICE SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 | g api - - - - -", ""},
		"ts":                   {"NAME APEX LEAF WEIGHT SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 | s api old 90 100.00% 0.8rps 0ms 0ms 0ms | s api new 10 0.00% 0.2rps 0ms 0ms 0ms", ""},
		"ts/s --from deploy/a": {"NAME APEX LEAF WEIGHT SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 | s api old 90 100.00% 0.8rps 0ms 0ms 0ms | s api new 10 0.00% 0.2rps 0ms 0ms 0ms", ""},
		"deploy/ httproute/":   {"NAME MESHED SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 TCP_CONN | deploy/web 1/1 - - - - - - |  | NAME SERVICE SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 | httproute/r api 75.00% 2.0rps 0ms 0ms 0ms", ""},
		"httproute/nope":       {"", "there is no httproute/nope in namespace shop"},
		"ts -l app=web":        {"", "a route has no pods"},
		"ts --to svc/api":      {"", "a route sends nothing"},
		"httproute -t 6h":      {"", "has no routes"},
	} {
		cmd := Stat(s)
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(strings.Fields(args))
		err := cmd.ExecuteContext(t.Context())
		var lines []string
		for line := range strings.Lines(out.String()) {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
		got := strings.Join(lines, " | ")
		if (err != nil) != (want.err != "") || err != nil && !strings.Contains(err.Error(), want.err) || got != want.out {
			t.Errorf("stat %s: %v\n%s\nwant %q\n%s", args, err, got, want.err, want.out)
		}
		if strings.Contains(args, "--from") && (asked.From != "deploy/a" || asked.FromNamespace != "shop") {
			t.Errorf("stat %s asked %+v", args, asked)
		}
	}
	cmd := Stat(s)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"ts", "-o", "json"})
	if err := cmd.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), `"apex": "api",
    "leaf": "new",
    "weight": "10",
    "success": 0`) {
		t.Errorf("%v, %s; want Linkerd's keys", err, out.String())
	}
}
