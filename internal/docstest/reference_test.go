package docstest

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/telemetry"
)

// canonical is a gRPC code as the specification spells it.
func canonical(code int) string {
	var c codes.Code
	for _, name := range []string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
		"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
		"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
	} {
		if err := c.UnmarshalJSON([]byte(`"` + name + `"`)); err == nil && int(c) == code {
			return fmt.Sprintf("%d %s", code, name)
		}
	}
	return fmt.Sprint(code)
}

func TestReasons(t *testing.T) {
	text := read(t, "docs/reference/reasons.md")
	documented := firsts(t, "(?m)^\\| `([a-z-]+)` \\|", text)
	var all []string
	for r := mesh.ReasonNone + 1; r < mesh.NumReasons; r++ {
		all = append(all, r.String())
		row := fmt.Sprintf("| `%s` | %d | %s | ", r, r.HTTPStatus(), canonical(r.GRPCCode()))
		if r.HTTPStatus() == 0 {
			row = fmt.Sprintf("| `%s` | - | - | ", r)
		}
		if !strings.Contains(text, row) {
			t.Errorf("reasons.md has no row %q", row)
		}
	}
	if !slices.Equal(documented, all) {
		t.Errorf("reasons.md has %v,\nthe code %v", documented, all)
	}
}

func TestSettings(t *testing.T) {
	text := read(t, "docs/reference/settings.md")
	want := firsts(t, `"((?:[a-z]+\.)?underlane\.io/[a-z-]+)"`, read(t, "pkg/mesh/annotation.go"))
	for _, name := range want {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("settings.md does not have %s", name)
		}
	}
	for _, name := range firsts(t, "`((?:[a-z]+\\.)?underlane\\.io/[a-z-]+)`", text) {
		if !slices.Contains(want, name) {
			t.Errorf("settings.md has %s, which the code has not", name)
		}
	}
}

// agentStats are the counts of an agent that is ready.
type agentStats telemetry.Stats

func (a agentStats) Stats() telemetry.Stats { return telemetry.Stats(a) }
func (agentStats) NotReady() []string       { return nil }

// scrape is what the agent exports once everything has happened.
func scrape(t *testing.T) string {
	t.Helper()
	id := mesh.Identity{TrustDomain: "d", Namespace: "n", ServiceAccount: "s"}
	m := telemetry.New(telemetry.Options{MaxPods: 1, Agent: agentStats{
		KernelEvents:      map[string]uint64{"x": 1},
		LimitHits:         map[string]uint64{"x": 1},
		Sandboxes:         map[string]uint64{"enrolled": 1},
		Ejections:         map[string]uint64{"failures": 1},
		Pods:              map[string]int{"enrolled": 1},
		PodCosts:          []telemetry.PodCost{{Namespace: "n", Name: "p"}},
		Endpoints:         []telemetry.Endpoints{{Namespace: "n", Service: "s"}},
		PolicyDecisions:   map[calls.Total]uint64{{Object: "x", Verdict: "denied"}: 1},
		Checks:            map[string]telemetry.CheckTimes{"denied": {Count: 1}},
		CertificateExpiry: map[mesh.Identity]time.Time{id: time.Now()},
		CertificateStart:  map[mesh.Identity]time.Time{id: time.Now()},
	}})
	m.Exports(func() telemetry.Exports {
		return telemetry.Exports{OTLP: map[string]map[string]uint64{"traces": {"sent": 1}}, AccessLogDropped: map[string]uint64{"rate": 1}}
	})
	for _, direction := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
		for _, kind := range []string{"deployment", "statefulset", "daemonset", "replicaset", "job", "cronjob"} {
			w := &mesh.Workload{Name: "p", Namespace: "n", OwnerKind: kind, OwnerName: "o"}
			peer := tap.Peer{Workload: w, Identity: id}
			e := tap.Event{
				Time: time.Now(), Direction: direction, Source: peer, Destination: peer, Service: &mesh.Service{Name: "s", Namespace: "n"},
				TLS: tap.TLSTrue, GRPC: true, Status: 503, Duration: time.Second, Reason: mesh.ReasonConnectRefused,
				Route: &mesh.Route{Kind: "HTTPRoute", Namespace: "n", Name: "r"}, Rule: "0",
			}
			for _, k := range []tap.Kind{tap.RequestInit, tap.ResponseInit, tap.ResponseEnd, tap.ConnOpen, tap.ConnClose} {
				e.Kind = k
				m.Emit(&e)
			}
		}
	}
	r := httptest.NewRecorder()
	m.Handler().ServeHTTP(r, httptest.NewRequest("GET", "/metrics", nil))
	return r.Body.String()
}

func TestMetrics(t *testing.T) {
	text := read(t, "docs/reference/metrics.md")
	got := scrape(t)
	for _, name := range firsts(t, `(?m)^# TYPE (\S+) `, got) {
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("metrics.md does not have %s", name)
		}
	}
	for _, series := range firsts(t, `(?m)^(?:request|response|route|tcp|underlane|identity)[a-z_]*\{(.*)\} `, got) {
		for _, label := range firsts(t, `([a-z0-9_]+)="`, series) {
			// dst_… stands for the same labels as those of the workload on this side.
			if label != "le" && !strings.Contains(text, "`"+label+"`") && !strings.Contains(text, "`"+strings.TrimPrefix(label, "dst_")+"`") {
				t.Errorf("metrics.md does not have the label %s", label)
			}
		}
	}
	for _, name := range firsts(t, `describe\("([a-z_]+)"`, read(t, "pkg/controller/metrics.go")) {
		if !strings.Contains(text, "| `underlane_controller_"+name+"` |") {
			t.Errorf("metrics.md does not have underlane_controller_%s", name)
		}
	}
	names := got + read(t, "pkg/controller/metrics.go")
	for _, name := range firsts(t, "(?m)^\\| `([a-z0-9_]+)` \\| (?:counter|gauge|histogram) \\|", text) {
		if !strings.Contains(names, "# TYPE "+name+" ") && !strings.Contains(names, `describe("`+strings.TrimPrefix(name, "underlane_controller_")+`"`) {
			t.Errorf("metrics.md has %s, which neither the agent nor the controller exports", name)
		}
	}
	for _, value := range firsts(t, `(?m)^\tTLS\w+\s+= "([a-z-]+)"`, read(t, "pkg/tap/event.go")) {
		if !strings.Contains(text, "| `"+value+"` |") {
			t.Errorf("metrics.md does not have tls=%s", value)
		}
	}
}

func TestAlerts(t *testing.T) {
	documented := firsts(t, "(?m)^\\| `(Underlane[A-Za-z]+)` \\|", read(t, "docs/operations.md"))
	alerts := firsts(t, `(?m)^ +- alert: (\w+)$`, read(t, "daemonset/chart/underlane/rules/underlane.yaml"))
	if !slices.Equal(documented, alerts) {
		t.Errorf("operations.md has the alerts\n%v, the rules\n%v", documented, alerts)
	}
}

func TestDashboards(t *testing.T) {
	text := read(t, "docs/grafana.md")
	var titles []string
	for _, path := range files(t, ".json") {
		if filepath.Dir(path) == "daemonset/chart/underlane/dashboards" {
			titles = append(titles, firsts(t, `(?m)^ "title": "Underlane / (.*)",$`, read(t, path))...)
		}
	}
	for _, title := range titles {
		if !strings.Contains(text, "| "+title+" |") {
			t.Errorf("grafana.md does not have the dashboard %q", title)
		}
	}
	if n := len(firsts(t, `(?m)^\| ([A-Z][a-z A-Z]+) \| `, text)) - 2; n != len(titles) { // less the heads of the tables
		t.Errorf("grafana.md has %d dashboards, the chart %d", n, len(titles))
	}
}

func TestKernelCounters(t *testing.T) {
	text := read(t, "docs/reference/metrics.md")
	guide := read(t, "docs/debugging.md")
	for _, name := range firsts(t, `(?m)^\tCOUNT_([A-Z_]+),`, read(t, "bpf/include/events.h")) {
		name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
		if !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("metrics.md does not have the kernel counter %s", name)
		}
		if !strings.Contains(guide, name) {
			t.Errorf("debugging.md does not have the kernel counter %s", name)
		}
	}
}

func TestFlags(t *testing.T) {
	text := read(t, "docs/reference/cli.md")
	var all []string
	check := func(pkg string, args ...string) {
		for _, flag := range firsts(t, `(?m)^ +(?:-\w, )?(--[a-z-]+)`, help(t, pkg, args...)) {
			all = append(all, flag)
			if !strings.Contains(text, "`"+flag+"`") {
				t.Errorf("cli.md does not have %s of %s %v", flag, pkg, args)
			}
		}
	}
	for _, pkg := range []string{"cmd/agent", "cmd/controller", "cmd/underlane"} {
		check(pkg)
		for _, command := range commands(t, pkg) {
			if command == "completion" || command == "help" {
				continue // cobra's
			}
			check(pkg, command)
			if command == "authz" {
				for _, sub := range commands(t, pkg, command) {
					check(pkg, command, sub)
				}
			}
			if !regexp.MustCompile(`(?m)^(#|.*\x60).*\b` + command + `\b`).MatchString(text) {
				t.Errorf("cli.md does not have the command %s of %s", command, pkg)
			}
		}
	}
	for _, flag := range firsts(t, "`(--[a-z-]+)`", text) {
		if !slices.Contains(all, flag) {
			t.Errorf("cli.md has %s, which no command has", flag)
		}
	}
}
