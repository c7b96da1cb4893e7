package node

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// startDashboard runs `agent dashboard` until the test ends, and returns its address.
func startDashboard(t *testing.T, socket string) string {
	t.Helper()
	root := &cobra.Command{Use: "agent", SilenceErrors: true, SilenceUsage: true}
	f := AddFlags(root)
	root.AddCommand(DashboardCommand(f, Kernel{}))
	in, out := io.Pipe()
	var stderr bytes.Buffer
	root.SetOut(out)
	root.SetErr(&stderr)
	root.SetArgs([]string{"dashboard", "--port", "0", "--socket", socket})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := root.ExecuteContext(ctx)
		_ = out.Close()
		done <- err
	}()
	text := make([]byte, 0, 200)
	for !strings.HasSuffix(string(text), "\n") || !strings.Contains(string(text), "http://") {
		part := make([]byte, 200)
		n, err := in.Read(part)
		if err != nil {
			t.Fatalf("%v: %s, want an address; it said %q", err, stderr.String(), text)
		}
		text = append(text, part[:n]...)
	}
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("agent dashboard: %v, want nil when it is interrupted", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("agent dashboard goes on when it is interrupted")
		}
	})
	_, url, _ := strings.Cut(string(text), "http://")
	return "http://" + strings.TrimSpace(url)
}

func TestDashboard(t *testing.T) {
	url := startDashboard(t, startMemory(t))
	get := func(path string) []byte {
		t.Helper()
		response, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v: %s", path, response.Status, err, body)
		}
		return body
	}
	var about struct{ Where, Command, Scope string }
	if err := json.Unmarshal(get("/about.json"), &about); err != nil || about.Scope != "node" || about.Command != "agent" || !strings.HasPrefix(about.Where, "node ") {
		t.Errorf("about.json: %+v %v, want a node's", about, err)
	}
	var f struct {
		Edges []struct{ Total struct{ Requests int } }
	}
	if err := json.Unmarshal(get("/api/v1alpha1/figures?by=workload&buckets=true&step=10&window=5m"), &f); err != nil || len(f.Edges) != 2 {
		t.Errorf("figures: %+v %v, want what the agent remembers", f, err)
	}
	var result struct{ Categories []struct{ Name string } }
	if err := json.Unmarshal(get("/api/v1alpha1/check"), &result); err != nil || len(result.Categories) == 0 || result.Categories[0].Name != "node-agent" {
		t.Errorf("check: %+v %v, want that of the agent", result, err)
	}
	if page := get("/"); !bytes.Contains(page, []byte(`src="/assets/app.js"`)) {
		t.Errorf("the page: %s, want that of the bundle", page)
	}
}

func TestDashboardFails(t *testing.T) {
	socket := startMemory(t)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--socket", socket + "x"}, "is the agent running"},
		{[]string{"--socket", socket, "--address", "0.0.0.0"}, "ssh -L"},
		{[]string{"--socket", socket, "--address", "localhost"}, "127.0.0.1"},
		{[]string{"--socket", socket, "--show", "grafana"}, "browser or url"},
	} {
		if r := run(t.Context(), Kernel{}, append([]string{"dashboard"}, tc.args...)...); r.code == 0 || !strings.Contains(r.err, tc.want) {
			t.Errorf("dashboard %v: %+v, want an error with %q", tc.args, r, tc.want)
		}
	}
}
