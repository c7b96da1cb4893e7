package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFigures checks what the commands say about traffic between two nodes, for users whose
// rights end at one namespace. They have credentials of their own: the API server decides
// who they are, and what they may ask the API group.
func TestFigures(t *testing.T) {
	t.Parallel()
	httpRoutes(t)
	shown, hidden := newNamespace(t, "underlane.io/mesh=enabled"), newNamespace(t, "underlane.io/mesh=enabled")
	calls(t, shown)
	calls(t, hidden)
	ann := account(t, shown, "ann", "underlane-tap-admin")
	bob := account(t, shown, "bob")

	t.Run("rights", func(t *testing.T) { rights(t, shown, hidden, ann, bob) })
	t.Run("stat", func(t *testing.T) { statistics(t, shown, hidden, ann) })
	t.Run("edges", func(t *testing.T) {
		rows := table(t, ann, "edges", "deploy", "-n", shown)
		for _, want := range []string{"client server √", "second server √"} {
			if f := strings.Fields(want); len(matching(rows, f[0]+" ", f[1]+" ", f[2])) != 1 {
				t.Errorf("edges: want one line with %q, got:\n%s", f, strings.Join(rows, "\n"))
			}
		}
		// The kubelet probes the server past its agent. That is no fault of the mesh.
		if got := matching(rows, "node/", " server "); len(got) != 1 || !strings.Contains(got[0], "kubelet") {
			t.Errorf("edges: got %q from the node, want one line about the kubelet's probes:\n%s", got, strings.Join(rows, "\n"))
		}
	})
	t.Run("routes", func(t *testing.T) { routesOf(t, shown, ann) })
	t.Run("connections", func(t *testing.T) {
		eventually(t, patience, func() error {
			rows := table(t, ann, "connections", "-n", shown, "deploy/client")
			if len(matching(rows, shown+"/client-", shown+"/server-", "wire", " true ")) == 0 {
				return fmt.Errorf("no connection with mutual TLS to the server:\n%s", strings.Join(rows, "\n"))
			}
			return nil
		})
	})
	t.Run("why", func(t *testing.T) { whyTried(t, shown, ann) })
	t.Run("headers", func(t *testing.T) { headers(t, shown, ann) })
	t.Run("dashboard", func(t *testing.T) { dashboard(t, shown, hidden, ann) })
	t.Run("cronjob", func(t *testing.T) { cronJob(t, shown, ann) })
	t.Run("history", func(t *testing.T) {
		// The controllers ask for a minute when it has ended.
		eventually(t, 2*time.Minute+patience, func() error {
			return busy(ann, t, "stat", "deploy/server", "-n", shown, "-t", "6h")
		})
	})
}

// httpRoutes installs the CustomResourceDefinitions of routes, with the fields of the experimental
// channel. Several tests do so, and each has to install the same.
func httpRoutes(t *testing.T) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api")
	list.Dir = root
	dir, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"httproutes", "grpcroutes", "tlsroutes", "tcproutes"} {
		kubectl(t, "apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(dir)), "config/crd/experimental/gateway.networking.k8s.io_"+kind+".yaml"))
		kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "crd/"+kind+".gateway.networking.k8s.io")
	}
}

// calls starts a server on node-2 and two clients on node-1, which call it until the end of
// the test: one by a Service with an HTTPRoute, the other by one with an annotation.
func calls(t *testing.T, ns string) {
	t.Helper()
	apply(t, ns, deployment("server", httpArgs, node("node-2"), container("resources: {limits: {memory: 64Mi}}"),
		container("readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}"))+
		service("server", []string{"80:8080"})+
		strings.NewReplacer("app: plain", "app: server", "name: plain}", `name: plain, annotations: {retry.underlane.io/limit: "1"}}`).Replace(service("plain", []string{"80:8080"}))+`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ones}
spec:
  parentRefs: [{group: "", kind: Service, name: server, port: 80}]
  rules:
  - name: one
    matches: [{path: {value: /one}}]
    backendRefs: [{name: server, port: 80}]
`)
	ready(t, ns, "deploy/server")
	call := func(url string) []string {
		return []string{
			"get", "--summary", "--count", "0", "--duration", "1h", "--interval", "50ms",
			"-H", "X-Colour: blue", "-H", "Authorization: Bearer abc", url,
		}
	}
	apply(t, ns, deployment("client", call("http://server/one"), node("node-1"))+
		deployment("second", call("http://plain/two"), node("node-1")))
	ready(t, ns, "deploy/client", "deploy/second")
}

// user is someone with a kubeconfig of their own.
type user struct{ name, kubeconfig string }

// account makes a service account with roles in its namespace.
func account(t *testing.T, ns, name string, roles ...string) user {
	t.Helper()
	kubectl(t, "create", "serviceaccount", name, "-n", ns)
	u := user{name: "system:serviceaccount:" + ns + ":" + name, kubeconfig: filepath.Join(t.TempDir(), name)}
	for _, role := range roles {
		u.grant(t, role)
	}
	var config map[string]any
	if err := json.Unmarshal([]byte(kubectl(t, "config", "view", "--raw", "--minify", "-o", "json")), &config); err != nil {
		t.Fatal(err)
	}
	users, ok := config["users"].([]any)
	if !ok || len(users) != 1 {
		t.Fatalf("users of the administrator's kubeconfig: got %v, want one", config["users"])
	}
	users[0].(map[string]any)["user"] = map[string]any{"token": kubectl(t, "create", "token", name, "-n", ns)}
	text, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(u.kubeconfig, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// grant binds a role in the user's namespace.
func (u user) grant(t *testing.T, role string) {
	t.Helper()
	parts := strings.Split(u.name, ":")
	kubectl(t, "create", "rolebinding", parts[3]+"-"+role, "-n", parts[2], "--clusterrole="+role, "--serviceaccount="+parts[2]+":"+parts[3])
}

// try runs underlane as the user.
func (u user) try(t *testing.T, args ...string) (string, error) {
	return tryUnderlane(t, append([]string{"--kubeconfig", u.kubeconfig}, args...)...)
}

// table returns the lines that a command prints for a user.
func table(t *testing.T, u user, args ...string) []string {
	t.Helper()
	out, err := u.try(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(out), "\n")
}

// rights checks that a user sees one namespace and no other, and that a refusal says who
// may not do what, and which role allows it.
func rights(t *testing.T, shown, hidden string, ann, bob user) {
	for _, command := range [][]string{
		{"stat", "deploy"}, {"edges", "deploy"}, {"routes"}, {"connections"},
	} {
		eventually(t, patience, func() error { // the API server needs a moment for a role
			out, err := ann.try(t, append(command, "-n", shown)...)
			if err == nil && strings.Contains(out, hidden) {
				t.Errorf("%v shows the namespace %s, want it hidden:\n%s", command, hidden, out)
			}
			return err
		})
		refused(t, ann, append(command, "-n", hidden), "in namespace "+hidden, "underlane-tap-admin")
		refused(t, ann, append(command, "-A"), "underlane-tap-admin")
		refused(t, bob, append(command, "-n", shown), "in namespace "+shown, "underlane-tap-admin")
	}
	for _, args := range [][]string{
		{"why", "deploy/client", "svc/server", "-n", hidden},
		{"why", "deploy/client", "svc/server", "-n", shown, "--to-namespace", hidden},
		{"top", "ns/" + hidden, "--once", "--duration", "1s"},
	} {
		refused(t, ann, args, "in namespace "+hidden, "underlane-tap-admin")
	}
	refused(t, bob, []string{"why", "deploy/client", "svc/server", "-n", shown}, "in namespace "+shown, "underlane-tap-admin")
	refused(t, ann, []string{"why", "deploy/client", "svc/server", "-n", shown, "--try"}, "in namespace "+shown, "underlane-try")
}

// refused checks that a command fails with the user's name and these words.
func refused(t *testing.T, u user, args []string, words ...string) {
	t.Helper()
	out, err := u.try(t, args...)
	if err == nil {
		t.Errorf("%s: %v was answered, want it refused:\n%s", u.name, args, out)
		return
	}
	for _, word := range append(words, u.name) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v: the refusal does not say %q: %v", u.name, args, word, err)
		}
	}
}

// statRow is a row of `stat -o json`.
type statRow struct {
	Namespace, Kind, Name, Meshed string
	Success, RPS                  *float64
	CPU                           float64 `json:"cpu_cores"`
	Memory                        uint64  `json:"memory_bytes"`
	MemoryLimit                   uint64  `json:"memory_limit_bytes"`
}

// rows runs stat for a user.
func rows(u user, t *testing.T, args ...string) (list []statRow, err error) {
	out, err := u.try(t, append(args, "-o", "json")...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &list)
	}
	return list, err
}

// busy returns nil if stat shows one resource, with requests that succeed.
func busy(u user, t *testing.T, args ...string) error {
	list, err := rows(u, t, args...)
	if err == nil && (len(list) != 1 || list[0].RPS == nil || *list[0].RPS <= 0 || list[0].Success == nil || *list[0].Success < 0.5) {
		err = fmt.Errorf("%v: got %+v, want one resource with requests that succeed", args, list)
	}
	return err
}

func statistics(t *testing.T, shown, hidden string, ann user) {
	eventually(t, patience, func() error { return busy(ann, t, "stat", "deploy/server", "-n", shown) })
	out := strings.Split(underlane(t, "stat", "deploy", "-A"), "\n")
	for _, ns := range []string{shown, hidden} {
		if got := matching(out, ns+" ", " server ", " 1/1 ", "rps"); len(got) != 1 {
			t.Errorf("stat deploy -A: got %q for the server of %s, want one line with requests:\n%s", got, ns, strings.Join(out, "\n"))
		}
	}
	for _, from := range []string{"deploy/client", "deploy/second"} {
		if err := busy(ann, t, "stat", "deploy/server", "-n", shown, "--from", from); err != nil {
			t.Error(err)
		}
	}
	// What the containers use is read from their cgroups, and comes with a second reading.
	eventually(t, patience, func() error {
		list, err := rows(ann, t, "stat", "pod", "-n", shown, "-o", "wide")
		if err == nil && len(list) != 3 {
			err = fmt.Errorf("got %d pods, want 3: %+v", len(list), list)
		}
		for _, r := range list {
			if err == nil && (r.CPU <= 0 || r.CPU > 8 || r.Memory < 1<<20 || r.Memory > 1<<30) {
				err = fmt.Errorf("%s uses %v processors and %d bytes, want what a small program uses", r.Name, r.CPU, r.Memory)
			}
			if limited := strings.HasPrefix(r.Name, "server-"); err == nil && limited != (r.MemoryLimit == 64<<20) {
				err = fmt.Errorf("%s has a memory limit of %d bytes, want 64 MiB for the server and none for others", r.Name, r.MemoryLimit)
			}
		}
		return err
	})
	wide := table(t, ann, "stat", "deploy", "-n", shown, "-o", "wide")
	if len(matching(wide, "CPU", "MEMORY_LIMIT")) != 1 || len(matching(wide, "server ", "64Mi")) != 1 {
		t.Errorf("stat -o wide: want columns for processors and memory, and the server's limit:\n%s", strings.Join(wide, "\n"))
	}
}

// cronJob checks that the pods of a CronJob's runs are the CronJob's: each run is a Job with a
// name of its own.
func cronJob(t *testing.T, ns string, ann user) {
	apply(t, ns, fmt.Sprintf(`
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers:
          - {name: main, image: %q, imagePullPolicy: IfNotPresent, command: [/labtest],
             args: [get, --summary, --count, "0", --duration, 30s, --interval, 50ms, "http://server/one"]}
`, image))
	// Named as the controller of CronJobs names them.
	kubectl(t, "create", "job", "-n", ns, "--from=cronjob/tick", fmt.Sprintf("tick-%d", time.Now().Unix()/60))
	eventually(t, patience, func() error {
		if err := busy(ann, t, "stat", "cronjob/tick", "-n", ns, "--to", "deploy/server"); err != nil {
			return err
		}
		if out := table(t, ann, "edges", "cronjob", "-n", ns); len(matching(out, "tick ", "deploy/server ", "√")) != 1 {
			return fmt.Errorf("edges cronjob: want one line from tick to the server:\n%s", strings.Join(out, "\n"))
		}
		return nil
	})
}

func routesOf(t *testing.T, ns string, ann user) {
	eventually(t, patience, func() error {
		out := table(t, ann, "routes", "-n", ns, "-o", "wide")
		if len(matching(out, "EFFECTIVE_SUCCESS", "ACTUAL_RPS")) != 1 {
			t.Fatalf("routes -o wide has no columns for effective and actual requests:\n%s", strings.Join(out, "\n"))
		}
		for _, words := range [][]string{{"ones/one ", " server ", "rps"}, {" plain ", "rps"}} {
			if len(matching(out, words...)) != 1 {
				return fmt.Errorf("want one line with %q:\n%s", words, strings.Join(out, "\n"))
			}
		}
		return nil
	})
}

// whyTried checks that an agent makes a connection for a user who has the right.
func whyTried(t *testing.T, ns string, ann user) {
	ann.grant(t, "underlane-try")
	eventually(t, patience, func() error {
		out, err := ann.try(t, "why", "deploy/client", "svc/server", "-n", ns, "--path", "/one", "--try")
		if err != nil {
			return err
		}
		for _, want := range []string{"by mutual TLS, on node-2", "was answered with status 200", "The call works"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("why does not say %q:\n%s", want, out)
			}
		}
		return nil
	})
}

// headers checks that tap shows headers to those who may see them, and no credentials.
func headers(t *testing.T, ns string, ann user) {
	args := []string{"--kubeconfig", ann.kubeconfig, "-n", ns, "deploy/client", "--to", "svc/server", "-o", "json"}
	nothing := func() error { return nil }
	watched(t, args, nothing, func(lines []string) error {
		text := strings.Join(lines, "\n")
		if strings.Contains(strings.ToLower(text), "x-colour") {
			t.Fatalf("a user without the role sees headers:\n%s", text)
		}
		if !strings.Contains(text, `"/one"`) {
			return fmt.Errorf("no request:\n%s", text)
		}
		return nil
	})
	ann.grant(t, "underlane-tap-headers")
	ann.mayEventually(t, "headers", ns)
	watched(t, args, nothing, func(lines []string) error {
		text := strings.ToLower(strings.Join(lines, "\n"))
		if strings.Contains(text, "bearer") {
			t.Fatalf("the output has the credentials:\n%s", text)
		}
		for _, want := range []string{`"x-colour"`, `"blue"`, `"authorization"`, `"[redacted]"`} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("no %s:\n%s", want, text)
			}
		}
		return nil
	})
}

// mayEventually waits until the API server knows that the user has a verb.
func (u user) mayEventually(t *testing.T, verb, ns string) {
	t.Helper()
	eventually(t, patience, func() error {
		_, err := tryKubectl(t, "auth", "can-i", verb, "deployments.tap.underlane.io", "-n", ns, "--as", u.name)
		return err
	})
}
