package tapapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	policycalls "github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/policy/judged"
	"github.com/underlane/underlane/test/fakeagent"
)

// policies implement Policies with a Server of port 80 that lets in web.
type policies struct{ objects *translate.Objects }

const guardedShop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {underlane.io/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-a, namespace: shop, labels: {app: web}}
spec: {nodeName: a, serviceAccountName: web}
status: {podIP: 10.0.0.1}
`

const tried = `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, port: 80}
`

func (p policies) Objects() *translate.Objects { return p.objects }
func (p policies) Egress() []*mesh.EgressNetwork {
	return []*mesh.EgressNetwork{{Namespace: "shop", Name: "outside", Deny: true, Networks: []mesh.EgressRange{{CIDR: netip.MustParsePrefix("203.0.113.0/24")}}}}
}

func (p policies) Translation() translate.Config {
	return translate.Config{TrustDomain: fakeagent.TrustDomain}
}

func (p policies) Authz(string) *authz.Spec {
	return &authz.Spec{TrustDomain: fakeagent.TrustDomain, Groups: []authz.Group{{Name: "Server.policy.linkerd.io shop/web"}}}
}

// guardedWorld has a pod with policies on the node a, which was called.
func guardedWorld(t *testing.T) (*world, *fakeagent.Agent) {
	objects, err := watch.Decode([]byte(guardedShop))
	if err != nil {
		t.Fatal(err)
	}
	p := policies{objects}
	w := newWorld(t, func(o *Options) { o.Policies = p })
	a := w.agent("a")
	server := w.workloads[0]
	server.Authorized, server.Addrs = true, []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	server.OwnerKind, server.OwnerName = "pod", server.Name
	rules, _ := authz.CompileWorkload(p.Authz(""))
	store := policycalls.New(time.Now)
	id := mesh.Identity{TrustDomain: fakeagent.TrustDomain, Namespace: "shop", ServiceAccount: "job"}
	conn := &authz.Connection{Peer: authz.PeerOf(id), Client: netip.MustParseAddr("10.0.0.9"), Port: 80}
	request := &authz.Request{Method: "GET", Authority: "web", Path: "/a"}
	allowed := authz.Decision{Outcome: authz.Outcome{Verdict: authz.Allow, Why: authz.WhyAudit}, Group: "default audit"}
	store.Judged(server, conn, id, request, &allowed)
	a.Stop()
	a.Authz = nodeapi.Authorization{
		Calls: store, Rules: func(string) *authz.Workload { return rules }, Decider: agentDecides{server, rules},
	}
	a.Restart()
	return w, a
}

type agentDecides struct {
	w     *mesh.Workload
	rules *authz.Workload
}

func (d agentDecides) Decide(_ context.Context, r *agentv1.DecideRequest) *agentv1.DecideResponse {
	return judged.Decide(d.w, d.rules, r)
}

// send makes a call, and decodes the answer into to.
func (w *world) send(method, user, path, body string, to any) (int, string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.kube.URL+path, strings.NewReader(body))
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
	_ = json.Unmarshal(data, to)
	return resp.StatusCode, string(data)
}

// TestAuthz: what the agents have judged is listed, tried and made policies of, and an answer
// without an agent says so.
func TestAuthz(t *testing.T) {
	w, a := guardedWorld(t)
	list := &tapv1alpha1.AuthzList{}
	code, text := w.send("GET", "alice", tapv1alpha1.AuthzPath("shop"), "", list)
	if code != 200 || len(list.Items) != 2 || list.Items[0].Calls != 0 || list.Items[1].Path != "/a" || list.Items[1].Verdict != "audited" || list.Items[1].Calls != 1 {
		t.Errorf("list: %d %s", code, text)
	}
	report := &tapv1alpha1.AuthzTry{}
	code, text = w.send("POST", "alice", tapv1alpha1.AuthzPath("shop"), tried, report)
	if code != 200 || report.Lost != 1 || len(report.Changes) != 1 || !strings.HasPrefix(report.Changes[0].ThenBy, "Server shop/web") {
		t.Errorf("try: %d %s", code, text)
	}
	if code, text = w.send("POST", "alice", tapv1alpha1.AuthzPath("shop"), "{", report); code != 400 {
		t.Errorf("try of what is no policy: %d %s, want 400", code, text)
	}
	suggestion := &tapv1alpha1.AuthzSuggestion{}
	code, text = w.send("GET", "alice", tapv1alpha1.AuthzSuggestPath("shop")+"?lang=linkerd", "", suggestion)
	if code != 200 || !strings.Contains(suggestion.Manifest, "kind: Server") || !strings.Contains(suggestion.Manifest, "name: job") {
		t.Errorf("suggest: %d %s", code, text)
	}
	path := tapv1alpha1.AuthzExplainPath("shop", "pods", "web-a") + "?port=80&method=GET&path=/a"
	e := &tapv1alpha1.AuthzExplanation{}
	code, text = w.send("GET", "alice", path, "", e)
	if code != 200 || e.Allowed || e.Object != "Server.policy.linkerd.io shop/web" || !strings.HasPrefix(e.DecidedBy, "the agent of a") {
		t.Errorf("explain: %d %s", code, text)
	}
	a.Stop()
	code, text = w.send("GET", "alice", path, "", e)
	if code != 200 || e.Allowed || !strings.HasPrefix(e.DecidedBy, "the controller") {
		t.Errorf("explain without the agent: %d %s", code, text)
	}
	code, text = w.send("GET", "alice", tapv1alpha1.AuthzPath("shop"), "", list)
	if code != 200 || list.Nodes.Asked != 1 || list.Nodes.Answered != 0 || len(list.Warnings) != 1 {
		t.Errorf("list without the agent: %d %s", code, text)
	}
}

// TestAuthzAccess: who may connect is told by the controller's policies, and workloads of other
// namespaces only to who may see all.
func TestAuthzAccess(t *testing.T) {
	w, _ := guardedWorld(t)
	w.mu.Lock()
	w.workloads = append(w.workloads, &mesh.Workload{
		UID: "job", Namespace: "jobs", Name: "job", OwnerKind: "job", OwnerName: "job", Meshed: true,
		Identity: mesh.Identity{TrustDomain: fakeagent.TrustDomain, Namespace: "jobs", ServiceAccount: "job"},
	})
	w.mu.Unlock()
	all := &tapv1alpha1.AuthzAccess{}
	code, text := w.send("GET", "alice", tapv1alpha1.AuthzAccessPath("shop"), "", all)
	if code != 200 || len(all.Servers) != 1 || !strings.Contains(text, `"name":"job"`) || !strings.HasPrefix(all.DecidedBy, "the controller") {
		t.Fatalf("%d %s, want 200 and one server, decided by the controller", code, text)
	}
	if e := all.Egress; len(e) != 1 || e[0].Name != "outside" || !e[0].Deny {
		t.Errorf("%+v, want the EgressNetwork", e)
	}
	if d := all.Servers[0].Decisions; len(d) != 1 || d[0].Verdict != "deny" || d[0].Object != "Server.policy.linkerd.io shop/web" {
		t.Errorf("%+v, want that the Server lets in nobody", d)
	}
	w.kube.Allow = func(s authorizationv1.SubjectAccessReviewSpec) bool { return s.ResourceAttributes.Namespace == "shop" }
	_, refused := w.server.Stats()
	code, text = w.send("GET", "bob", tapv1alpha1.AuthzAccessPath("shop"), "", &tapv1alpha1.AuthzAccess{})
	if code != 200 || strings.Contains(text, "job") || !strings.Contains(text, "may not see all namespaces") {
		t.Errorf("of one namespace: %d %s, want no workload of another one", code, text)
	}
	if _, now := w.server.Stats(); now["denied"] != refused["denied"] {
		t.Errorf("%v, want that a narrower answer counts as no refusal: %v", now, refused)
	}
	if code, text = w.send("GET", "bob", tapv1alpha1.AuthzAccessPath("jobs"), "", &struct{}{}); code != 403 {
		t.Errorf("of a namespace that is not allowed: %d %s, want 403", code, text)
	}
	if code, text = w.send("GET", "bob", tapv1alpha1.AuthzAccessPath("shop")+"?x=1", "", &struct{}{}); code != 400 {
		t.Errorf("an unknown parameter: %d %s, want 400", code, text)
	}
}

// TestAuthzNeedsRights: each question needs its verb.
func TestAuthzNeedsRights(t *testing.T) {
	w, _ := guardedWorld(t)
	w.kube.Allow = func(authorizationv1.SubjectAccessReviewSpec) bool { return false }
	for _, tc := range []struct{ method, path, want string }{
		{"GET", tapv1alpha1.AuthzPath("shop"), "list authz"},
		{"GET", tapv1alpha1.AuthzPath(""), "list authz"},
		{"POST", tapv1alpha1.AuthzPath("shop"), "create authz"},
		{"GET", tapv1alpha1.AuthzSuggestPath("shop"), "get authz"},
		{"GET", tapv1alpha1.AuthzAccessPath("shop"), "get authz"},
		{"GET", tapv1alpha1.AuthzExplainPath("shop", "pods", "web-a"), "get pods/authz"},
	} {
		code, text := w.send(tc.method, "bob", tc.path, tried, &struct{}{})
		got := ""
		if reviews := w.kube.Reviews(); len(reviews) > 0 {
			asked := reviews[len(reviews)-1].ResourceAttributes
			got = strings.TrimSuffix(asked.Verb+" "+asked.Resource+"/"+asked.Subresource, "/")
		}
		if code != 403 || got != tc.want {
			t.Errorf("%s %s: %d %s, asked for %q, want 403 and %q", tc.method, tc.path, code, text, got, tc.want)
		}
	}
}
