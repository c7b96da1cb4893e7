package prometheus

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/cli/cluster/chart"
	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/layout"
)

// patience is for what takes a moment on a machine that does other things, too.
const patience = time.Minute

// server is a Prometheus in the controller's network namespace of a lab.
type server struct {
	t      *testing.T
	client *http.Client
}

// config is a configuration of Prometheus: what the test reads of it, and changes.
type config struct {
	Global  map[string]any   `json:"global"`
	Rules   []string         `json:"rule_files"`
	Scrapes []map[string]any `json:"scrape_configs"`
}

// configuration returns the files of the chart's Prometheus by name.
func configuration(t *testing.T) map[string]string {
	t.Helper()
	objects, err := chart.Render(t.Context(), "underlane-system", map[string]any{"monitoring": map[string]any{
		"linkerdDashboards": true, "prometheus": map[string]any{"enabled": true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.GetKind() != "ConfigMap" || o.GetName() != "underlane-prometheus" {
			continue
		}
		var m struct{ Data map[string]string }
		if err := yaml.Unmarshal([]byte(o.Text), &m); err != nil {
			t.Fatal(err)
		}
		return m.Data
	}
	t.Fatal("the chart renders no ConfigMap underlane-prometheus")
	return nil
}

// prepare writes the chart's files, has Prometheus's own tool check them, changes them for a
// lab, and returns the directory where they are.
func prepare(t *testing.T, files map[string]string, nodes int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var c config
	if err := yaml.UnmarshalStrict([]byte(files["prometheus.yml"]), &c); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if name != "prometheus.yml" {
			write(t, dir, name, []byte(text))
			promtool(t, dir, "check", "rules", name)
		}
	}
	// The targets are the lab's. Debian's Prometheus is built without those of Kubernetes.
	for _, s := range c.Scrapes {
		if s["kubernetes_sd_configs"] == nil {
			t.Errorf("the job %v finds no targets in a cluster", s["job_name"])
		}
		delete(s, "kubernetes_sd_configs")
		s["static_configs"] = targets(s["job_name"], nodes)
	}
	c.write(t, dir)
	promtool(t, dir, "check", "config", "prometheus.yml")
	// And everything happens each second.
	c.Global["scrape_interval"], c.Global["evaluation_interval"] = "1s", "1s"
	for _, s := range c.Scrapes {
		delete(s, "relabel_configs")
	}
	c.write(t, dir)
	return dir
}

// targets are those of a job, with the labels that the chart gives them, and those that the
// Prometheus operator adds: they must not replace the labels of the metrics.
func targets(job any, nodes int) (all []any) {
	if job == "underlane-controller" {
		return []any{map[string]any{"targets": []string{"127.0.0.1:4192"}}}
	}
	for n := 1; n <= nodes; n++ {
		all = append(all, map[string]any{
			"targets": []string{net.JoinHostPort(layout.NodeAddrs(n)[0].String(), "4191")},
			"labels":  map[string]string{"node": layout.NodeName(n), "namespace": "underlane-system", "pod": fmt.Sprintf("underlane-agent-%d", n)},
		})
	}
	return all
}

func (c *config) write(t *testing.T, dir string) {
	t.Helper()
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "prometheus.yml", text)
}

func write(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("promtool %s (of Debian's package prometheus; make test-prometheus installs it): %v\n%s", strings.Join(args, " "), err, out)
	}
}

// start starts Prometheus with the configuration in dir, which ends with the test.
func start(t *testing.T, l *lab.Lab, dir string) *server {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := l.NodeCommand("controller", "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:9090", "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	background(t, cmd)
	s := &server{t: t, client: &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer(t, l)}}}
	t.Cleanup(s.client.CloseIdleConnections)
	t.Cleanup(func() {
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the end of Prometheus's log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return s
}

// background starts a command, and ends it with the test.
func background(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
}

// dialer returns a function that dials in the controller's network namespace, by a bridge
// that runs there.
func dialer(t *testing.T, l *lab.Lab) func(context.Context, string, string) (net.Conn, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ul") // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := l.NodeCommand("controller", "labtest", "bridge", socket)
	if _, err := cmd.StdinPipe(); err != nil { // it runs until its input ends
		t.Fatal(err)
	}
	background(t, cmd)
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, err
		}
		r := bufio.NewReader(c)
		_, err = fmt.Fprintln(c, addr)
		var line string
		if err == nil {
			line, err = r.ReadString('\n')
		}
		if err == nil && !strings.HasPrefix(line, "OK ") {
			err = fmt.Errorf("dial %s: %s", addr, strings.TrimSpace(line))
		}
		if err != nil {
			c.Close()
			return nil, err
		}
		return c, nil // HTTP servers do not speak first: r has nothing more
	}
}

// get asks the API of Prometheus.
func (s *server) get(into any, path string, values url.Values) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9090/api/v1/"+path+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask Prometheus: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("Prometheus: %s: %w", resp.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("Prometheus: %s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// sample is one series of an answer, and its value now.
type sample struct {
	labels map[string]string
	value  float64
}

// query returns the series that a query has now, other than those that are not a number.
func (s *server) query(expr string) ([]sample, error) {
	var answer struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := s.get(&answer, "query", url.Values{"query": {expr}}); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	var out []sample
	for _, r := range answer.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: value %q: %w", expr, text, err)
		}
		if !math.IsNaN(v) {
			out = append(out, sample{r.Metric, v})
		}
	}
	return out, nil
}

// values returns the values of a label of the series that a selector matches.
func (s *server) values(label, selector string) (out []string, err error) {
	return out, s.get(&out, "label/"+label+"/values", url.Values{"match[]": {selector}})
}

// rule is a rule as Prometheus has read it. State is inactive, pending or firing, of alerts.
type rule struct{ Name, Query, Health, LastError, Type, State string }

func (s *server) rules() ([]rule, error) {
	var answer struct{ Groups []struct{ Rules []rule } }
	err := s.get(&answer, "rules", nil)
	var out []rule
	for _, g := range answer.Groups {
		out = append(out, g.Rules...)
	}
	return out, err
}
