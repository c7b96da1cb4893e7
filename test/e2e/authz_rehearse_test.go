package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/test/lab"
)

// authz runs `lab authz`, and returns what it prints and whether it succeeds.
func authz(l *lab.Lab, args ...string) (stdout, stderr string, ok bool) {
	cmd := l.Command(append([]string{"authz"}, args...)...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return out.String(), errs.String(), err == nil
}

// authzRows returns the rows of `lab authz` for the server.
func authzRows(t *testing.T, l *lab.Lab) []tapv1alpha1.AuthzRow {
	t.Helper()
	out, errs, ok := authz(l, "pod/server", "-n", "default", "-t", "15m", "-o", "json")
	list := &tapv1alpha1.AuthzList{}
	if err := json.Unmarshal([]byte(out), list); err != nil || !ok {
		t.Fatalf("authz prints %q, %s", out, errs)
	}
	return list.Items
}

// TestLeastPrivilege goes the way from no policy to the smallest one: audit, look, suggest, try,
// apply. Then a stranger is refused, and the rule is named everywhere.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	server := serverPod("server", node2)
	server.Annotations = map[string]string{"underlane.io/policy": "audit"}
	pod := func(name, node, account string) podSpec {
		p := clientPod(name, node)
		p.Account = account
		return p
	}
	l := lab.Up(t, lab.Options{}, manifests(
		pod("web", node1, "web"), pod("near", node2, "near"), pod("job", node1, "job"), pod("job-near", node2, "job"), server,
	))
	waitEnrolled(t, l, "default/web", "default/near", "default/job", "default/job-near", "default/server")
	tap := startTap(t, l, node2)
	http, echo := addrPort(l.Pod("server").IP(), 8080), addrPort(l.Pod("server").IP(), 7000)
	get := func(client, path string) string {
		return l.TryExec(client, "labtest", "get", "-i", "http://"+http+path).Stdout
	}

	// 1. Audit lets everybody in, and tells.
	for client, path := range map[string]string{"web": "/charge/17", "near": "/list"} {
		if out := get(client, path); !strings.Contains(out, " 200 OK\n") {
			t.Fatalf("%s: got %q, want that audit lets it in", client, out)
		}
	}
	if r := say(l, "web", echo, "hello"); !strings.HasSuffix(r.Stdout, "hello") {
		t.Fatalf("opaque: got %q", r.Stdout)
	}
	for _, path := range []string{"/charge/17", "/list"} {
		e := tap.wait("the audited request "+path, func(e event) bool { return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == path })
		if e.Policy == nil || e.Policy.Verdict != "audited" || e.Policy.Object != "default audit" {
			t.Errorf("%s in tap: got %+v, want that the mode audit let it in", path, e.Policy)
		}
	}
	rows := authzRows(t, l)
	for _, want := range []tapv1alpha1.AuthzRow{
		{Client: "spiffe://cluster.local/ns/default/sa/web", Port: 8080, Method: "GET", Path: "/charge/{*}"},
		{Client: "spiffe://cluster.local/ns/default/sa/near", Port: 8080, Method: "GET", Path: "/list"},
		{Client: "spiffe://cluster.local/ns/default/sa/web", Port: 7000},
	} {
		if !slices.ContainsFunc(rows, func(r tapv1alpha1.AuthzRow) bool {
			return r.Client == want.Client && r.Port == want.Port && r.Method == want.Method && r.Path == want.Path && r.Verdict == "audited" && r.Calls > 0
		}) {
			t.Errorf("authz has no row like %+v: %+v", want, rows)
		}
	}
	if out := l.Command("stat", "pod/server", "-n", "default", "-o", "json"); true {
		text, err := out.Output()
		if err != nil || !strings.Contains(string(text), `"audited": 3`) {
			t.Errorf("stat: got %s, %v, want 3 audited", text, err)
		}
	}

	// 2. Suggest, and try: nothing would be denied.
	policy, notes, ok := authz(l, "suggest", "-n", "default", "--lang", "linkerd")
	if !ok || strings.Count(policy, "podSelector:\n") != 2 || !strings.Contains(policy, "name: near") {
		t.Fatalf("suggest prints %s\n%s", policy, notes)
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, ok := authz(l, "try", "-n", "default", "-f", file)
	if !ok || !strings.Contains(out, "0 would be denied, 0 would be allowed") {
		t.Errorf("the suggested policy changes something: %s%s", out, errs)
	}
	// One without web would change what web does.
	less := filepath.Join(t.TempDir(), "less.yaml")
	if err := os.WriteFile(less, []byte(strings.ReplaceAll(policy, "name: web\n", "name: other\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, ok = authz(l, "try", "-n", "default", "-f", less); ok || !strings.Contains(out, "web.default → pod/server port 8080: GET /charge/{*} (1 calls) would be denied by Server default/server-8080") &&
		!strings.Contains(out, "web.default → po/server port 8080: GET /charge/{*} (1 calls) would be denied by Server default/server-8080") {
		t.Errorf("a policy without web: %s%s", out, errs)
	}
	if out := get("job", "/nothing-is-applied-yet"); !strings.Contains(out, " 200 OK\n") {
		t.Errorf("to try has changed something: %s", out)
	}

	// 3. Apply.
	l.Apply(policy)
	for _, client := range []string{"job", "job-near"} {
		l.Eventually(patience, func() error {
			if out := get(client, "/refused-"+client); !strings.Contains(out, " 403 Forbidden\n") {
				return fmt.Errorf("%s is not refused: %s", client, out)
			}
			return nil
		})
		e := tap.wait("the refused request of "+client, func(e event) bool {
			return e.ResponseEndEvent != nil && e.ResponseEndEvent.Path == "/refused-"+client && e.Reason == "policy-denied"
		})
		if e.Policy == nil || e.Policy.Verdict != "denied" || e.Policy.Object != "Server.policy.linkerd.io default/server-8080" {
			t.Errorf("%s in tap: got %+v, want the Server", client, e.Policy)
		}
		if r := say(l, client, echo, "hello"); strings.HasSuffix(r.Stdout, "hello") {
			t.Errorf("%s, opaque: let in", client)
		}
	}
	for client, path := range map[string]string{"web": "/charge/18", "near": "/list"} {
		if out := get(client, path); !strings.Contains(out, " 200 OK\n") {
			t.Errorf("%s: got %q, want that the suggested policy lets it in", client, out)
		}
	}
	if !slices.ContainsFunc(authzRows(t, l), func(r tapv1alpha1.AuthzRow) bool {
		return r.Verdict == "denied" && r.Client == "spiffe://cluster.local/ns/default/sa/job" && r.Object == "Server.policy.linkerd.io default/server-8080"
	}) {
		t.Errorf("authz does not have the refused calls: %+v", authzRows(t, l))
	}
	for client, want := range map[string]string{
		"job": "× denied by Server default/server-8080: none of its policies allows it",
		"web": "√ allowed by AuthorizationPolicy.policy.linkerd.io default/server-8080, rule 1",
	} {
		out, errs, ok := authz(l, "explain", "-n", "default", "--from", "pod/"+client, "--to", "pod/server", "--port", "8080", "--method", "GET", "--path", "/list")
		if ok != (client == "web") || !strings.Contains(out, want) || !strings.Contains(out, "decided by: the agent of "+node2) {
			t.Errorf("explain %s: succeeds %v, prints %s%s, want %q", client, ok, out, errs, want)
		}
	}
}
