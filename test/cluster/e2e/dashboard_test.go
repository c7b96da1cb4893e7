package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// dashboard checks that `underlane dashboard` serves its page, and behind it the API with
// the rights of the user who started it.
func dashboard(t *testing.T, shown, hidden string, ann user) {
	d := startDashboard(t, "--kubeconfig", ann.kubeconfig)
	page := d.get(t, "/", 200)
	assets := regexp.MustCompile(`(?:src|href)="(/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(assets) < 3 {
		t.Errorf("the page names %d files, want icon, script and style:\n%s", len(assets), page)
	}
	for _, a := range assets {
		if text := d.get(t, a[1], 200); len(text) < 100 {
			t.Errorf("%s has %d bytes, want a file", a[1], len(text))
		}
	}
	if about := d.get(t, "/about.json", 200); !strings.Contains(about, `"cluster"`) {
		t.Errorf("about.json: want that it is of a cluster: %s", about)
	}

	const api = "/api/v1alpha1/"
	for path, want := range map[string]string{
		"figures?by=workload&window=1m": `"Figures"`,
		"resources":                     `"ResourceList"`,
		"routes":                        `"ones"`,
		"connections":                   `"ConnectionList"`,
	} {
		got := d.get(t, api+"namespaces/"+shown+"/"+path, 200)
		if !strings.Contains(got, want) || !strings.Contains(got, `"server"`) || strings.Contains(got, hidden) {
			t.Errorf("%s of %s: want %s with the server and nothing of %s, got:\n%.2000s", path, shown, want, hidden, got)
		}
		for _, refused := range []string{api + "namespaces/" + hidden + "/" + path, api + path} {
			if got := d.get(t, refused, 403); !strings.Contains(got, "underlane-tap-admin") || strings.Contains(got, `"server"`) {
				t.Errorf("%s: want a refusal that names the role, got:\n%.2000s", refused, got)
			}
		}
	}
	d.get(t, api+"nodes", 403)
	if c := d.check(t); c.Success || !strings.Contains(c.text, ann.name) || !strings.Contains(c.text, "right") {
		t.Errorf("the check of a user who may not look: want that the right is missing, got:\n%s", c.text)
	}

	admin := startDashboard(t)
	if got := admin.get(t, api+"figures?by=namespace&window=1m", 200); !strings.Contains(got, shown) || !strings.Contains(got, hidden) {
		t.Errorf("the administrator's figures: want both namespaces, got:\n%.2000s", got)
	}
	if c := admin.check(t); !c.Success || len(c.Categories) < 5 {
		t.Errorf("the administrator's check: got success %v with %d categories, want success and all of them:\n%s", c.Success, len(c.Categories), c.text)
	}
}

// dashboardServer is a running `underlane dashboard`.
type dashboardServer struct{ url string }

var served = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// startDashboard starts it, beside the API server, until the end of the test.
func startDashboard(t *testing.T, flags ...string) dashboardServer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(ctx, append([]string{"exec", "--", filepath.Join(root, "bin/underlane"), "dashboard", "--show", "url", "--port", "0"}, flags...)...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the dashboard ended with %v, want it to end quietly: %q", err, out.lines())
		}
	})
	var d dashboardServer
	eventually(t, patience, func() error {
		if d.url = served.FindString(strings.Join(out.lines(), "\n")); d.url == "" {
			return fmt.Errorf("it prints no address: %q", out.lines())
		}
		return nil
	})
	return d
}

// get fetches a path and checks the status of the answer.
func (d dashboardServer) get(t *testing.T, path string, status int) string {
	t.Helper()
	out, err := try(t.Context(), "", "exec", "--", filepath.Join(root, "bin/images/bin/labtest"), "get", "--include", d.url+path)
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(out, "\n"); !strings.Contains(first, fmt.Sprint(status)) {
		t.Errorf("%s: got %q, want %d:\n%.2000s", path, first, status, out)
	}
	return out
}

// checkView is what the view of checks shows.
type checkView struct {
	Success    bool
	Categories []struct{ Name string }
	text       string
}

func (d dashboardServer) check(t *testing.T) (c checkView) {
	t.Helper()
	c.text = d.get(t, "/api/v1alpha1/check", 200)
	at := strings.Index(c.text, "{")
	if at < 0 {
		t.Fatalf("check: want JSON, got:\n%s", c.text)
	}
	if err := json.Unmarshal([]byte(c.text[at:]), &c); err != nil {
		t.Fatalf("check: %v:\n%s", err, c.text)
	}
	return c
}
