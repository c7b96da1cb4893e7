package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/dashboard"
)

// dashboardOf is the dashboard of this kubeconfig, without its guard's headers.
func dashboardOf(t *testing.T, kubeconfig string) http.Handler {
	t.Helper()
	flags := &Flags{Kubeconfig: kubeconfig}
	api, err := flags.dashboardAPI()
	if err != nil {
		t.Fatal(err)
	}
	h, err := dashboard.Handler(dashboard.Config{API: api, About: dashboard.About{Where: flags.clusterName()}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask makes a request as a browser does, with what a page of somebody else may add.
func ask(h http.Handler, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:50750"+path, nil)
	r.Header = http.Header{
		"Accept": {"application/json"}, "Cookie": {"session=x"}, "Authorization": {"Bearer other"},
		"Impersonate-User": {"root"}, "X-Remote-User": {"root"}, "Upgrade": {"websocket"}, "Connection": {"Upgrade"},
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestDashboardAsksAsTheUser(t *testing.T) {
	w := withCalls(t)
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		return review.User == "ann" && (review.ResourceAttributes.Namespace == "data" || review.ResourceAttributes.Resource == "nodes")
	}
	h := dashboardOf(t, w.kube.Kubeconfig("ann", "shop"))
	const api = "/api/v1alpha1"
	got := ask(h, api+"/namespaces/data/figures?by=workload&window=5m")
	var f tapv1alpha1.Figures
	if err := json.Unmarshal(got.Body.Bytes(), &f); err != nil || got.Code != http.StatusOK || len(f.Edges) != 1 {
		t.Errorf("figures of data: %d %.200s %v, want one edge", got.Code, got.Body, err)
	}
	if policy := got.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("Content-Security-Policy %q, want that of the dashboard", policy)
	}
	if got := ask(h, api+"/nodes"); got.Code != http.StatusOK {
		t.Errorf("nodes: %d %s, want 200", got.Code, got.Body)
	}
	for path, want := range map[string]struct {
		code int
		text string
	}{
		api + "/figures":                            {403, "underlane-tap-admin"},
		api + "/namespaces/shop/figures":            {403, "underlane-tap-admin"},
		api + "/namespaces/data/figures?by=x":       {400, "by"},
		api + "/nothing":                            {404, "there is no"},
		api + "/a%2Fb":                              {400, "leads out"},
		api + "/namespaces/%2e%2e%2f%2e%2e/secrets": {400, "leads out"},
		api + "/namespaces/%252e%252e/figures":      {400, "leads out"},
		api + "/":                                   {400, "leads out"},
	} {
		got := ask(h, path)
		var status struct {
			Kind, Message string
			Code          int
		}
		if err := json.Unmarshal(got.Body.Bytes(), &status); err != nil || got.Code != want.code || status.Code != want.code || status.Kind != "Status" || !strings.Contains(status.Message, want.text) {
			t.Errorf("%s: %d %s %v, want a Status %d with %q", path, got.Code, got.Body, err, want.code, want.text)
		}
	}
}

// TestDashboardPassesLittleOn sees what arrives at the API server, and what of its answer
// arrives at the browser.
func TestDashboardPassesLittleOn(t *testing.T) {
	var paths []string
	var headers http.Header
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.Method+" "+r.RequestURI)
		headers = r.Header
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "{}")
	}))
	defer server.Close()
	h := dashboardOf(t, kubeconfig(t, server.URL+"/k8s/clusters/c-1", "secret"))
	got := ask(h, "/api/v1alpha1/namespaces/shop/figures?by=pod&to=svc%2Fdb")
	for _, path := range []string{"/api/v1alpha1/../../api/v1/secrets", "/api/v1/secrets", "/apis/apps/v1/deployments"} {
		ask(h, path)
	}
	if diff := cmp.Diff([]string{"GET /k8s/clusters/c-1/apis/tap.underlane.io/v1alpha1/namespaces/shop/figures?by=pod&to=svc%2Fdb"}, paths); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"Authorization": "Bearer secret", "Accept": "application/json", "Cookie": "", "Impersonate-User": "", "X-Remote-User": "", "Upgrade": "", "X-Forwarded-For": ""} {
		if headers.Get(name) != want {
			t.Errorf("the API server gets %s %q, want %q", name, headers.Get(name), want)
		}
	}
	for _, name := range []string{"Set-Cookie", "Access-Control-Allow-Origin"} {
		if value := got.Header().Get(name); value != "" {
			t.Errorf("the browser gets %s %q, want none", name, value)
		}
	}
}

// kubeconfig has a server that is not verified, for a token.
func kubeconfig(t *testing.T, server, token string) string {
	t.Helper()
	return writeKubeconfig(t, fmt.Sprintf("server: %q, insecure-skip-tls-verify: true", server), token)
}

func writeKubeconfig(t *testing.T, cluster, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: work\nclusters: [{name: c, cluster: {%s}}]\nusers: [{name: u, user: {token: %q}}]\ncontexts: [{name: work, context: {cluster: c, user: u}}]\n", cluster, token)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDashboardStreams reads a tap while it goes on.
func TestDashboardStreams(t *testing.T) {
	w, agents := newWorld(t, "a", "b")
	defer traffic(agents...)()
	server := httptest.NewServer(dashboardOf(t, w.kube.Kubeconfig("alice", "shop")))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/v1alpha1/watch/namespaces/shop/deployments/web/tap?view=once", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", tapv1alpha1.MediaJSON)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	seen := map[string]bool{}
	for in := bufio.NewScanner(response.Body); !(seen["/a"] && seen["/b"]); {
		if !in.Scan() {
			t.Fatalf("the stream ends: %v; seen %v", in.Err(), seen)
		}
		for _, path := range []string{"/a", "/b"} {
			seen[path] = seen[path] || strings.Contains(in.Text(), `"path":"`+path+`"`)
		}
	}
}

// TestDashboardChecks: the checks are those of the command, in a cluster without an
// installation, too.
func TestDashboardChecks(t *testing.T) {
	w := withCalls(t)
	got := ask(dashboardOf(t, w.kube.Kubeconfig("root", "shop")), "/api/v1alpha1/check")
	var result check.Answer
	if err := json.Unmarshal(got.Body.Bytes(), &result); err != nil || got.Code != http.StatusOK || len(result.Categories) == 0 || result.Categories[0].Name != "kubernetes-api" {
		t.Errorf("%d %v: %s, want the categories of underlane check", got.Code, err, got.Body)
	}
}

// TestDashboardSaysWhy has what may be wrong between the user and the mesh: when the
// command starts, and when the page asks.
func TestDashboardSaysWhy(t *testing.T) {
	answer := func(code int, text string) *httptest.Server {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
		}))
		t.Cleanup(server.Close)
		return server
	}
	strict := answer(200, "{}")
	gone := answer(200, "{}")
	gone.Close()
	for name, tc := range map[string]struct {
		kubeconfig string
		code       int
		want       string
	}{
		"not installed":    {kubeconfig(t, answer(404, "404 page not found\n").URL, "x"), 503, "is Underlane installed?"},
		"no controller":    {kubeconfig(t, answer(503, "service unavailable\n").URL, "x"), 503, "underlane check"},
		"logged out":       {kubeconfig(t, answer(401, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`).URL, "x"), 401, ""},
		"elsewhere":        {kubeconfig(t, answer(302, "").URL, "x"), 502, ""},
		"other authority":  {writeKubeconfig(t, fmt.Sprintf("server: %q", strict.URL), "x"), 502, "certificate-authority-data"},
		"nothing listens":  {kubeconfig(t, gone.URL, "x"), 502, "is the cluster up"},
		"no such resource": {kubeconfig(t, answer(404, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"there is no pod of deploy/x","reason":"NotFound","details":{"name":"x"},"code":404}`).URL, "x"), 404, "there is no pod"},
	} {
		got := ask(dashboardOf(t, tc.kubeconfig), "/api/v1alpha1/figures")
		var status struct {
			Kind, Message string
			Details       struct{ Name string }
		}
		if err := json.Unmarshal(got.Body.Bytes(), &status); err != nil || got.Code != tc.code || status.Kind != "Status" || status.Message == "" || !strings.Contains(status.Message, tc.want) {
			t.Errorf("%s: %d %s %v, want a Status %d with %q", name, got.Code, got.Body, err, tc.code, tc.want)
		}
		if tc.code == 404 && status.Details.Name != "x" {
			t.Errorf("%s: details %+v, want what is not there", name, status.Details)
		}
		if tc.want == "" || tc.code == 404 {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := runDashboard(ctx, tc.kubeconfig)
		cancel()
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: underlane dashboard: %v, want an error with %q", name, err, tc.want)
		}
	}
}

func runDashboard(ctx context.Context, kubeconfig string) error {
	root := Command("underlane")
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	root.SetArgs([]string{"dashboard", "--port", "0", "--show", "url", "--kubeconfig", kubeconfig})
	return root.ExecuteContext(ctx)
}

// TestDashboardCommand runs the command until it is interrupted.
func TestDashboardCommand(t *testing.T) {
	w := withCalls(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	root := Command("underlane")
	root.SetOut(in)
	root.SetErr(io.Discard)
	root.SetArgs([]string{"dashboard", "--port", "0", "--show", "url", "--kubeconfig", w.kube.Kubeconfig("alice", "shop")})
	done := make(chan error, 1)
	go func() {
		err := root.ExecuteContext(ctx)
		_ = in.CloseWithError(io.EOF)
		done <- err
	}()
	var address string
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		if u, err := url.Parse(lines.Text()); err == nil && u.Scheme == "http" {
			address = u.String()
		}
	}
	if address == "" {
		t.Fatalf("no address: %v", <-done)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	response, err := http.Get(address + "/api/v1alpha1/figures")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("figures: %s, want 200", response.Status)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("interrupted: %v, want nil", err)
	}
}

func TestClusterName(t *testing.T) {
	path := writeKubeconfig(t, `server: "https://127.0.0.1:1"`, "x")
	if got := (&Flags{Kubeconfig: path}).clusterName(); got != "cluster work" {
		t.Errorf("%q, want the context of the kubeconfig", got)
	}
	if got := (&Flags{Kubeconfig: path, Context: "other"}).clusterName(); got != "cluster other" {
		t.Errorf("%q, want the context that was given", got)
	}
}
