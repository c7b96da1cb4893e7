package tapapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authorizationv1 "k8s.io/api/authorization/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/test/fakeagent"
)

// whyWorld has web on node a and api on node b, a Service of another namespace in front of
// api, and agents that have enrolled them.
func whyWorld(t *testing.T) (w *world, a, b *fakeagent.Agent) {
	w = newWorld(t)
	a, b = w.agent("a"), w.agent("b")
	api := b.Workload("back", "api-1", "api")
	api.Addrs, api.Settings.Policy = []netip.Addr{netip.MustParseAddr("10.0.2.2")}, mesh.PolicyStrict
	w.workloads = append(w.workloads, api)
	w.services = []*mesh.Service{{
		Name: "api", Namespace: "back", VIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
		Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Addr: netip.MustParseAddrPort("10.0.2.2:8080"), Ready: true, Workload: api, WorkloadUID: api.UID}}}},
	}}
	a.St.Pods = []*agentv1.Pod{{Namespace: "shop", Name: "web-a", State: mesh.PodEnrolled}}
	b.St.Pods = []*agentv1.Pod{{Namespace: "shop", Name: "web-b", State: mesh.PodEnrolled}, {Namespace: "back", Name: "api-1", State: mesh.PodEnrolled}}
	return w, a, b
}

// ask asks why, by GET or POST.
func (w *world) ask(method, user, path string) (*tapv1alpha1.WhyReport, int, string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.kube.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+user)
	resp, err := w.kube.HTTP.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	report := &tapv1alpha1.WhyReport{}
	_ = json.Unmarshal(data, report)
	return report, resp.StatusCode, string(data)
}

const fromWebA = "/namespaces/shop/pods/web-a/"

// TestWhy: the answer has what the controller and the agents know.
func TestWhy(t *testing.T) {
	w, a, b := whyWorld(t)
	a.Ejections = []*agentv1.Ejection{{Namespace: "back", Service: "api", Port: 80, Endpoint: "10.0.2.2:8080", Cause: "failures"}}
	path := tapv1alpha1.WhyPath("shop", "pods", "web-a") + "?to=svc/api&to-namespace=back&port=80"
	r, code, text := w.ask("GET", "alice", path)
	if code != 200 || !r.Works || len(r.Steps) != 6 {
		t.Fatalf("%d %s, want 200, six steps, and that it works", code, text)
	}
	for _, want := range []string{"pod/web-a in namespace shop is captured", "by mutual TLS, on b", "failure accrual", "strict", "There was no call"} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want %q in it", text, want)
		}
	}
	b.Stop()
	if r, code, text = w.ask("GET", "alice", path); code != 200 || r.Works || !strings.Contains(text, "its agent does not answer for it") {
		t.Errorf("without the server's agent: %d %s; want 200, and that it does not work", code, text)
	}
	b.Restart()
	w.mu.Lock()
	w.workloads[0].Meshed = false
	w.mu.Unlock()
	if r, code, text = w.ask("GET", "alice", path); code != 200 || r.Works || !strings.Contains(text, "refused with no-identity") {
		t.Errorf("with an unlabelled client: %d %s; want 200, and no-identity", code, text)
	}
}

// TestTryOfWhy: the agent of the client's node makes the connection.
func TestTryOfWhy(t *testing.T) {
	w, a, b := whyWorld(t)
	path := tapv1alpha1.TryPath("shop", "pods", "web-a") + "?to=svc/api&to-namespace=back&protocol=http&path=/x&authority=api"
	b.TryResponse = func(*agentv1.TryRequest) (*agentv1.TryResponse, error) {
		t.Error("the wrong agent is asked")
		return nil, nil
	}
	var asked *agentv1.TryRequest
	a.TryResponse = func(r *agentv1.TryRequest) (*agentv1.TryResponse, error) {
		asked = r
		return &agentv1.TryResponse{Connected: true, Status: 200, Report: &agentv1.TryReport{Endpoint: "10.0.2.2:8080", Tls: "true"}}, nil
	}
	r, code, text := w.ask("POST", "alice", path)
	if code != 200 || !r.Works || !strings.Contains(text, "status 200") || !strings.Contains(r.Conclusion, "was tried") {
		t.Errorf("%d %s, want that it works", code, text)
	}
	if asked.GetPod() != "shop/web-a" || asked.GetDestination() != "10.9.0.1:80" || asked.GetPath() != "/x" || asked.GetAuthority() != "api" {
		t.Errorf("the agent was asked for %v", asked)
	}
	a.TryResponse = func(*agentv1.TryRequest) (*agentv1.TryResponse, error) {
		return nil, status.Error(codes.ResourceExhausted, "other connections are being tried")
	}
	if r, code, text = w.ask("POST", "alice", path); code != 200 || !r.Works || !strings.Contains(text, "No connection was made") {
		t.Errorf("an agent that does not try: %d %s, want the answer without it", code, text)
	}
	if _, code, text = w.ask("POST", "alice", strings.Replace(path, "path=", "method=POST&path=", 1)); code != 200 || !strings.Contains(text, "only GET and HEAD are tried") {
		t.Errorf("POST: %d %s, want that it is not tried", code, text)
	}
}

// TestWhyRights: one needs the right to see both ends, and another one to make a connection.
func TestWhyRights(t *testing.T) {
	w, _, _ := whyWorld(t)
	var allowed map[string]bool
	w.kube.Allow = func(s authorizationv1.SubjectAccessReviewSpec) bool {
		r := s.ResourceAttributes
		return allowed[r.Verb+" "+r.Namespace+" "+r.Resource+"/"+r.Subresource]
	}
	const ask, try, server = "get shop pods/why", "create shop pods/try", "get back services/why"
	for _, c := range []struct {
		method, path string
		allowed      []string
		code         int
		want         string
	}{
		{"GET", "why?to=svc/api&to-namespace=back", []string{ask, server}, 200, ""},
		{"GET", "why?to=svc/api&to-namespace=back", []string{ask}, 403, "may not ask why calls work of services/api in namespace back"},
		{"GET", "why?to=svc/api&to-namespace=back", []string{server, try}, 403, "may not ask why calls work of pods/web-a in namespace shop"},
		{"GET", "why?to=pod/web-b&port=80", []string{ask}, 200, ""},
		{"POST", "try?to=svc/api&to-namespace=back&protocol=tcp", []string{try, server}, 200, ""},
		{"POST", "try?to=svc/api&to-namespace=back&protocol=tcp", []string{ask, server}, 403, "may not make connections as pods/web-a in namespace shop: ask for the ClusterRole underlane-try"},
		{"POST", "try?to=svc/api&to-namespace=back&protocol=tcp", []string{try}, 403, "services/api"},
		{"GET", "why?to=nonsense", []string{ask}, 400, "no kind"},
		{"GET", "why?to=svc/api&from=pod/x", []string{ask}, 400, "there is no parameter"},
		{"GET", "why", []string{ask}, 400, "which Service"},
		{"GET", "why?to=svc/api&path=x", []string{ask}, 400, "begins with /"},
		{"GET", "why?to=svc/api&header=x", []string{ask}, 400, "NAME=VALUE"},
	} {
		allowed = map[string]bool{}
		for _, a := range c.allowed {
			allowed[a] = true
		}
		_, code, text := w.ask(c.method, "jane", tapv1alpha1.Prefix+fromWebA+c.path)
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s %s with %v: %d %s; want %d and %q", c.method, c.path, c.allowed, code, text, c.code, c.want)
		}
	}
}
