package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGrafanaDashboards checks that the API server takes the chart's dashboards, applied as
// the page about Grafana says, and that Grafana's sidecar would find them by their label.
func TestGrafanaDashboards(t *testing.T) {
	upgrade(t, map[string]string{"monitoring.dashboards.enabled": "true"}, "configmap", "-l", "grafana_dashboard=1")
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Data     map[string]string
		}
	}
	if err := json.Unmarshal([]byte(kubectl(t, "get", "configmaps", "-A", "-l", "grafana_dashboard=1", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	got, want := map[string]any{}, map[string]any{}
	for _, m := range list.Items {
		for name, text := range m.Data {
			got[name] = decoded(t, name, text)
		}
	}
	files, err := filepath.Glob(filepath.Join(root, "daemonset/chart/underlane/dashboards/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards of the chart: got %d, %v; want some", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := "underlane-" + filepath.Base(file)
		want[name] = decoded(t, name, string(text))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dashboards in the cluster (-want +got):\n%s", diff)
	}
}

func decoded(t *testing.T, name, text string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return value
}

// upgrade changes values of the installation until the end of the test, and deletes then
// what they have made, such as "configmap/a". Agents and controllers go on: their pods do
// not depend on these values.
func upgrade(t *testing.T, values map[string]string, made ...string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		off := map[string]string{}
		for name, value := range values {
			if value == "true" {
				off[name] = "false"
			}
		}
		err := tryUpgrade(ctx, off)
		_, deleted := try(ctx, "", append([]string{"kubectl", "--", "delete", "-n", system, "--ignore-not-found"}, made...)...)
		if err := errors.Join(err, deleted); err != nil {
			t.Error(err)
		}
	})
	if err := tryUpgrade(t.Context(), values); err != nil {
		t.Fatal(err)
	}
}

func tryUpgrade(ctx context.Context, values map[string]string) error {
	args := []string{"exec", "--", filepath.Join(root, "bin/underlane"), "upgrade"}
	for name, value := range values {
		args = append(args, "--set", name+"="+value)
	}
	manifests, err := try(ctx, "", args...)
	if err == nil {
		_, err = try(ctx, manifests, "kubectl", "--", "apply", "-f", "-")
	}
	return err
}

// TestPrometheus runs the chart's Prometheus, of the version that the chart names, with the
// chart's rights: it finds agents and controllers, and its rules have data.
func TestPrometheus(t *testing.T) {
	const program = "prometheus"
	for _, args := range [][]string{{"images", program}, {"load", filepath.Join("bin/images", program+".tar")}} {
		if err := step(args...); err != nil { // it takes minutes the first time
			t.Fatal(err)
		}
	}
	httpRoutes(t)
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	calls(t, ns)
	upgrade(t, map[string]string{
		"monitoring.prometheus.enabled": "true", "monitoring.prometheus.image": "registry.underlane.test/prometheus:dev",
		"monitoring.prometheus.scrapeInterval": "5s", "monitoring.linkerdDashboards": "true",
	}, "deploy/underlane-prometheus", "service/underlane-prometheus", "configmap/underlane-prometheus",
		"serviceaccount/underlane-prometheus", "role/underlane-prometheus", "rolebinding/underlane-prometheus")
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		out, err := try(ctx, "", "kubectl", "--", "logs", "-n", system, "deploy/underlane-prometheus", "--tail=30")
		t.Logf("the end of Prometheus's log: %v\n%s", err, out)
	})
	ready(t, system, "deploy/underlane-prometheus")
	p := &prometheus{t: t, ns: ns}

	want := map[string]int{"underlane-agent": 2, "underlane-controller": 2}
	eventually(t, patience, func() error {
		var targets struct {
			ActiveTargets []struct {
				Labels            map[string]string
				ScrapeURL, Health string
				LastError         string
			}
		}
		if err := p.get("targets?state=active", &targets); err != nil {
			return err
		}
		got := map[string]int{}
		for _, target := range targets.ActiveTargets {
			if target.Health != "up" {
				return fmt.Errorf("target %s is %s: %s", target.ScrapeURL, target.Health, target.LastError)
			}
			if job := target.Labels["job"]; job != "underlane-agent" || strings.HasPrefix(target.Labels["node"], "node-") {
				got[job]++
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("targets that are up, those of agents with the label node (-want +got):\n%s", diff)
		}
		return nil
	})
	rules := p.rules()
	eventually(t, 2*patience, func() error {
		// A connection that is refused: some rules are about failures.
		_, _ = in(t, ns, "deploy/client", "/labtest", "dial", strings.TrimPrefix(p.server(), "http://")+":9") // refused
		var err error
		for name, expr := range rules {
			if n, e := p.query(expr); e != nil || n == 0 {
				err = errors.Join(err, fmt.Errorf("%s has no data: %s (%v)", name, expr, e))
			} else {
				delete(rules, name)
			}
		}
		return err
	})
	// The labels namespace and node are those of workloads and agents.
	for _, expr := range []string{
		fmt.Sprintf(`sum(rate(request_total{namespace=%q, deployment="client", dst_deployment="server", direction="outbound", tls="true"}[1m])) > 1`, ns),
		fmt.Sprintf(`workload:response_success:ratio_rate5m{namespace=%q, deployment="server"} > 0.9`, ns),
		`count(up{job="underlane-agent", node=~"node-[12]"} == 1) == 2`,
	} {
		eventually(t, patience, func() error {
			n, err := p.query(expr)
			if err == nil && n != 1 {
				err = fmt.Errorf("%s: got %d series, want one", expr, n)
			}
			return err
		})
	}
}

// prometheus asks the chart's Prometheus from a pod, by the name that the chart gives it.
type prometheus struct {
	t    *testing.T
	ns   string
	addr string // of the server, once asked for
}

// server returns the address of the pod that is called.
func (p *prometheus) server() string {
	if p.addr == "" {
		p.addr = kubectl(p.t, "get", "-n", p.ns, podOf(p.t, p.ns, "server"), "-o", "jsonpath={.status.podIP}")
	}
	return p.addr
}

// get reads the data of an answer of the HTTP API.
func (p *prometheus) get(path string, into any) error {
	out, err := in(p.t, p.ns, "deploy/client", "/labtest", "get", "http://underlane-prometheus."+system+":9090/api/v1/"+path)
	if err != nil {
		return err
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return fmt.Errorf("%s: %w: %q", path, err, out)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s: %s", path, answer.Status, answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// query returns how many series an expression has.
func (p *prometheus) query(expr string) (int, error) {
	var answer struct{ Result []json.RawMessage }
	err := p.get("query?query="+url.QueryEscape(expr), &answer)
	return len(answer.Result), err
}

// threshold is what an alert compares its value with.
var threshold = regexp.MustCompile(`\s*(<|>|==|<=|>=)\s*[0-9.]+\s*$`)

// rules waits until Prometheus has evaluated its rules, and returns the queries that must have
// data by the names of the rules: what is recorded, and what alerts look at.
func (p *prometheus) rules() map[string]string {
	p.t.Helper()
	out := map[string]string{}
	eventually(p.t, 2*patience, func() error {
		var answer struct {
			Groups []struct {
				Rules []struct{ Name, Query, Type, Health, LastError string }
			}
		}
		if err := p.get("rules", &answer); err != nil {
			return err
		}
		clear(out)
		for _, g := range answer.Groups {
			for i, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("rule %s: health %s: %s", r.Name, r.Health, r.LastError)
				}
				name := r.Name + " " + strconv.Itoa(i)
				if out[name] = r.Name; r.Type == "alerting" {
					out[name] = threshold.ReplaceAllString(r.Query, "")
				}
			}
		}
		if len(out) < 30 {
			return fmt.Errorf("got %d rules, want those of both files", len(out))
		}
		return nil
	})
	return out
}
