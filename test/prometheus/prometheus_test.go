package prometheus

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/test/lab"
)

const nodes = 2

// route makes requests to web take part in the metrics of routes, with retries.
const route = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: votes, namespace: emojivote}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
    - name: vote
      matches: [{path: {value: /api/vote}}]
      retry: {codes: [500], attempts: 1}
      backendRefs: [{name: web, port: 80}]
    - name: rest
      backendRefs: [{name: web, port: 80}]
`

// onlyInCluster are the metrics that a controller of a lab does not have, because it has no
// API server.
var onlyInCluster = []string{"underlane_controller_taps", "underlane_controller_tap_calls_refused_total"}

// expected are the alerts that the failures of the test raise.
var expected = []string{"UnderlaneConnectionsFail", "UnderlaneRequestsFail"}

// TestPrometheus: Prometheus takes the chart's configuration and rules, and everything that
// asks it about the demo has an answer.
func TestPrometheus(t *testing.T) {
	dir := prepare(t, configuration(t), nodes)
	l := lab.Up(t, lab.Options{Nodes: nodes}, "../demo/manifests", route)
	s := start(t, l, dir)

	var rules []rule
	l.Eventually(patience, func() (err error) {
		if rules, err = s.rules(); err == nil && len(rules) == 0 {
			err = fmt.Errorf("Prometheus has no rules")
		}
		return err
	})
	left := slices.Concat(dashboards(t), ofRules(t, rules), linkerd())
	total := len(left)
	began := time.Now()
	l.Eventually(patience, func() error {
		traffic(l)
		left = slices.DeleteFunc(left, func(w wanted) bool {
			return slices.ContainsFunc(onlyInCluster, func(m string) bool { return strings.Contains(w.expr, m) }) || s.missing(w) == nil
		})
		if len(left) == 0 {
			return nil
		}
		var text strings.Builder
		for _, w := range left {
			fmt.Fprintf(&text, "\n%s: %v", w.where, s.missing(w))
		}
		return fmt.Errorf("%d of %d queries:%s", len(left), total, text.String())
	})
	t.Logf("%d queries have data after %s", total, time.Since(began).Round(time.Second))

	for _, expr := range []string{ // connections that carry requests: web has no others inbound
		`sum(tcp_open_connections{direction="inbound", peer="src", namespace="emojivote", deployment="web", client_id=~".*/vote-bot", tls="true"})`,
		`sum(tcp_open_connections{direction="outbound", peer="dst", deployment="web", dst_deployment="voting", server_id=~".*/voting", tls="true"})`,
		`sum(tcp_open_connections{direction="outbound", peer="src", deployment="vote-bot", dst_service="web"})`,
	} {
		if series, err := s.query(expr); err != nil || len(series) != 1 || series[0].value < 1 {
			t.Errorf("%s is %v (%v), want at least 1", expr, series, err)
		}
	}

	rules, err := s.rules()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if r.Health != "ok" {
			t.Errorf("the rule %s: health %s: %s", r.Name, r.Health, r.LastError)
		}
		if r.Type == "alerting" && r.State != "inactive" && !slices.Contains(expected, r.Name) {
			t.Errorf("the alert %s is %s in a mesh that is well", r.Name, r.State)
		}
	}

	// An alert is raised when there is something to be told.
	l.KillAgent("node-1")
	l.Eventually(patience, func() error {
		rules, err := s.rules()
		if err != nil {
			return err
		}
		at := slices.IndexFunc(rules, func(r rule) bool { return r.Name == "UnderlaneAgentDown" })
		if at < 0 || rules[at].State == "inactive" {
			return fmt.Errorf("UnderlaneAgentDown is not raised without an agent")
		}
		return nil
	})
}

// traffic makes what the demo does not do by itself: connections of opaque bytes, connections
// and requests that fail, and requests from outside the mesh.
func traffic(l *lab.Lab) {
	near, far := l.Pod("emojivote/deploy/emoji").IP().String(), l.Pod("emojivote/deploy/voting").IP().String()
	const web, bot = "emojivote/deploy/web", "emojivote/deploy/vote-bot"
	for pod, argv := range map[string][][]string{
		web: {
			{"banner-client"},
			{"banner-client", near + ":9"},
			{"banner-client", far + ":9"}, // nothing listens there
			{"get", "http://" + near + ":9/"},
			{"get", "http://" + far + ":9/"},
		},
		bot:        {{"get", "http://web/"}},
		"outsider": {{"get", "http://web.emojivote/"}},
	} {
		for _, args := range argv {
			l.TryExec(pod, append([]string{"emojivote"}, args...)...) // some are to fail
		}
	}
}
