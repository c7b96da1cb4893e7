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

// notHere are metrics that the mesh of the lab does not have: it has no API server, and its
// agents no OTLP receiver.
var notHere = []string{"underlane_controller_taps", "underlane_controller_tap_calls_refused_total", "underlane_otlp_items_total"}

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
	left := slices.DeleteFunc(slices.Concat(dashboards(t), ofRules(t, rules), linkerd()), func(w wanted) bool {
		return slices.ContainsFunc(notHere, func(metric string) bool { return strings.Contains(w.expr, metric) })
	})
	total := len(left)
	began := time.Now()
	// A rate is not there before its second scrape, and a quantile not while nothing happens.
	l.Eventually(3*patience, func() error {
		traffic(l)
		var text strings.Builder
		left = slices.DeleteFunc(left, func(w wanted) bool {
			err := s.missing(w)
			if err != nil {
				fmt.Fprintf(&text, "\n%s: %v", w.where, err)
			}
			return err == nil
		})
		if len(left) > 0 {
			return fmt.Errorf("%d of %d queries:%s", len(left), total, text.String())
		}
		return nil
	})
	t.Logf("%d queries have data after %s", total, time.Since(began).Round(time.Second))

	for _, expr := range []string{ // connections that carry requests: web has no others inbound
		`sum(tcp_open_connections{direction="inbound", peer="src", namespace="emojivote", deployment="web", client_id=~".*/vote-bot", tls="true"})`,
		`sum(tcp_open_connections{direction="outbound", peer="dst", deployment="web", dst_deployment="voting", server_id=~".*/voting", tls="true"})`,
		`sum(tcp_open_connections{direction="outbound", peer="src", deployment="vote-bot", dst_service="web"})`,
		// Bytes a second, of a connection that does not close.
		`sum(rate(tcp_read_bytes_total{direction="inbound", peer="src", deployment="voting", client_id=~".*/web"}[30s]))`,
		`sum(rate(tcp_write_bytes_total{direction="outbound", peer="dst", deployment="web", dst_deployment="voting"}[30s]))`,
	} {
		l.Eventually(patience, func() error {
			series, err := s.query(expr)
			if err == nil && (len(series) != 1 || series[0].value < 1) {
				err = fmt.Errorf("%s is %v, want at least 1", expr, series)
			}
			return err
		})
	}

	checkAlerts(t, l, s)

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

// checkAlerts: Prometheus can evaluate all rules, and each alert is inactive in a mesh that is
// well. A scrape that takes longer than a second raises one for a moment.
func checkAlerts(t *testing.T, l *lab.Lab, s *server) {
	t.Helper()
	quiet := map[string]bool{}
	l.Eventually(patience, func() error {
		rules, err := s.rules()
		if err != nil {
			return err
		}
		var raised []string
		for _, r := range rules {
			if r.Health != "ok" {
				return fmt.Errorf("the rule %s: health %s: %s", r.Name, r.Health, r.LastError)
			}
			if r.Type != "alerting" || slices.Contains(expected, r.Name) || quiet[r.Name] {
				continue
			}
			if quiet[r.Name] = r.State == "inactive"; !quiet[r.Name] {
				raised = append(raised, r.Name+" is "+r.State)
			}
		}
		if raised != nil {
			return fmt.Errorf("in a mesh that is well %s", strings.Join(raised, ", "))
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
