// Package e2e installs Underlane on a real cluster as a user would, and tests what it
// promises with only kubectl and the command line.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait. It is long because the machine may be busy.
const patience = time.Minute

// root is the top of the repository.
var root = func() string {
	wd, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return filepath.Join(wd, "../../..")
}()

// installation has the flags for installing Underlane on a cluster whose images are
// loaded and not pulled.
var installation = []string{
	"--set", "image.registry=registry.underlane.test", "--set", "image.tag=dev", "--set", "controller.replicas=2",
	"--set", "authorizationPolicies.enabled=true", "--set", "rateLimitPolicies.enabled=true",
}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root, for the cluster's namespaces")
		os.Exit(1)
	}
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// bare is set for tests that install Underlane themselves.
var bare = os.Getenv("BARE") == "1"

// setUp brings the cluster up and installs Underlane, unless that is done already.
func setUp() error {
	// An existing cluster is used as it is, whatever its options.
	if command(context.Background(), "kubectl", "--", "get", "nodes").Run() != nil {
		// A node may die at its start while another cluster is being removed. A second up
		// removes what is left and starts again.
		up := []string{"up"}
		if cgroup := os.Getenv("CGROUP"); cgroup != "" {
			up = append(up, "--cgroup", cgroup)
		}
		if err := step(up...); err != nil {
			fmt.Fprintln(os.Stderr, "once more, after:", err)
			if err := step(up...); err != nil {
				return err
			}
		}
	}
	if bare {
		return nil
	}
	if command(context.Background(), "kubectl", "--", "get", "-n", system, "deploy/underlane-controller").Run() != nil {
		if err := step(append([]string{"exec", "--", "bin/underlane", "install", "--apply"}, installation...)...); err != nil {
			return err
		}
	}
	return step("exec", "--", "bin/underlane", "check", "--wait", "3m")
}

// step runs bin/cluster with its output on this process's.
func step(args ...string) error {
	cmd := command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("bin/cluster %s: %w", strings.Join(args, " "), err)
	}
	fmt.Fprintf(os.Stderr, "== bin/cluster %s: %.1f s\n", strings.Join(args, " "), time.Since(start).Seconds())
	return nil
}

// system is the namespace of Underlane itself.
const system = "underlane-system"

// command returns a command of bin/cluster with arguments.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bin/cluster"), args...)
	cmd.Dir = root
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// try runs bin/cluster with input and returns its standard output. The error has its
// standard error.
func try(ctx context.Context, input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cmd := command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

// tryKubectl and tryUnderlane run the two programs of a user.
func tryKubectl(t testing.TB, args ...string) (string, error) {
	return try(t.Context(), "", append([]string{"kubectl", "--"}, args...)...)
}

func tryUnderlane(t testing.TB, args ...string) (string, error) {
	return try(t.Context(), "", append([]string{"exec", "--", filepath.Join(root, "bin/underlane")}, args...)...)
}

func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func underlane(t testing.TB, args ...string) string {
	t.Helper()
	out, err := tryUnderlane(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func apply(t testing.TB, namespace, manifests string) {
	t.Helper()
	if _, err := try(t.Context(), manifests, "kubectl", "--", "apply", "-n", namespace, "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// newNamespace makes a namespace for the test, with labels such as
// "underlane.io/mesh=enabled", and deletes it at the end of the test.
func newNamespace(t testing.TB, labels ...string) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	name = strings.TrimPrefix(name, "test")
	if len(name) > 50 {
		name = name[:50]
	}
	name += fmt.Sprintf("-%d", time.Now().UnixMilli()%10_000_000) // one that was made before may still be there
	kubectl(t, "create", "namespace", name)
	if len(labels) > 0 {
		kubectl(t, append([]string{"label", "namespace", name}, labels...)...)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if t.Failed() {
			out, _ := try(ctx, "", "kubectl", "--", "get", "pods,endpointslices", "-n", name, "-o", "wide")
			t.Logf("pods and endpoints of %s:\n%s", name, out)
		}
		_, _ = try(ctx, "", "kubectl", "--", "delete", "namespace", name, "--wait=false")
	})
	return name
}

// ready waits until the named resources are rolled out.
func ready(t testing.TB, namespace string, resources ...string) {
	t.Helper()
	for _, r := range resources {
		if strings.HasPrefix(r, "pod/") {
			kubectl(t, "wait", "-n", namespace, "--for=condition=Ready", "--timeout=170s", r)
			continue
		}
		kubectl(t, "rollout", "status", "-n", namespace, "--timeout=170s", r)
	}
}

// endpoints waits until Kubernetes says that a Service has so many endpoints. After an outage
// of the API server its controllers need up to a minute for that.
func endpoints(t testing.TB, namespace, service string, n int) {
	t.Helper()
	eventually(t, 3*patience, func() error {
		out, err := tryKubectl(t, "get", "endpointslices", "-n", namespace, "-l", "kubernetes.io/service-name="+service,
			"-o", "jsonpath={.items[*].endpoints[*].addresses[*]}")
		if got := len(strings.Fields(out)); err == nil && got != n {
			err = fmt.Errorf("Service %s has %d endpoints, want %d", service, got, n)
		}
		return err
	})
}

// in runs a program in a pod, such as "deploy/client".
func in(t testing.TB, namespace, pod string, args ...string) (string, error) {
	return tryKubectl(t, append([]string{"exec", "-n", namespace, pod, "--"}, args...)...)
}

// reachable waits until a request from a pod to a URL is answered with 200. A rolled
// out deployment has only started; DNS, endpoints and kube-proxy may be a moment
// behind.
func reachable(t testing.TB, namespace, pod, url string) {
	t.Helper()
	eventually(t, patience, func() error {
		s, err := tryRequests(t, namespace, pod, url)
		if err == nil && s.Status["200"] != 1 {
			err = fmt.Errorf("%s: %+v", url, s)
		}
		return err
	})
}

// reachableByAll waits until 20 requests one after the other, each with a lookup and a
// connection of its own, are answered with 200: by then both replicas of the cluster's DNS
// know the Service, and kube-proxy its servers.
func reachableByAll(t testing.TB, namespace, pod, url string) {
	t.Helper()
	eventually(t, patience, func() error {
		s, err := tryRequests(t, namespace, pod, "--count", "20", "--fresh", url)
		if s.Requests == 20 && s.Status["200"] == 20 {
			return nil
		}
		return errors.Join(err, fmt.Errorf("%s: %+v", url, s))
	})
}

func mustIn(t testing.TB, namespace, pod string, args ...string) string {
	t.Helper()
	out, err := in(t, namespace, pod, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually polls until check returns nil.
func eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", within, err)
		}
	}
}

// status returns the annotation underlane.io/status of a pod.
func status(t testing.TB, namespace, pod string) string {
	t.Helper()
	return kubectl(t, "get", "-n", namespace, pod, "-o", `jsonpath={.metadata.annotations.underlane\.io/status}`)
}

func enrolled(t testing.TB, namespace string, pods ...string) {
	t.Helper()
	for _, pod := range pods {
		eventually(t, patience, func() error {
			if s := status(t, namespace, pod); !strings.HasPrefix(s, "enrolled") {
				return fmt.Errorf("%s: status %q", pod, s)
			}
			return nil
		})
	}
}

// leftOut waits until the status of a pod on the host's network says that it is left
// out.
func leftOut(t testing.TB, namespace, pod string) {
	t.Helper()
	eventually(t, patience, func() error {
		if s := status(t, namespace, pod); s != "left-out: host network" {
			return fmt.Errorf("%s: status %q", pod, s)
		}
		return nil
	})
}

// podOf returns the only pod with the label app=NAME, as "pod/NAME-…".
func podOf(t testing.TB, namespace, app string) string {
	t.Helper()
	pods := strings.Fields(kubectl(t, "get", "pods", "-n", namespace, "-l", "app="+app,
		"--field-selector=status.phase=Running", "-o", `jsonpath={.items[*].metadata.name}`))
	if len(pods) == 0 {
		t.Fatalf("got no pod with app=%s in %s, want one", app, namespace)
	}
	return "pod/" + pods[0]
}

// watched runs `underlane tap` and meanwhile repeats the function until the lines
// satisfy want. It has to repeat it, because tap does not report when the readers on
// all nodes are ready.
func watched(t testing.TB, args []string, during func() error, want func(lines []string) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := command(ctx, append([]string{"exec", "--", filepath.Join(root, "bin/underlane"), "tap"}, args...)...)
	var out, errs lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { cancel(); <-ended }()

	deadline := time.Now().Add(patience)
	for {
		problem := during()
		for shown := time.Now().Add(2 * time.Second); problem == nil && time.Now().Before(shown); time.Sleep(100 * time.Millisecond) {
			if want(out.lines()) == nil {
				return
			}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("tap %v ended, want it running: %v\n%s", args, err, errs.lines())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("tap %v: %v\n%s\nstandard error: %s", args, errors.Join(problem, want(out.lines())), strings.Join(out.lines(), "\n"), errs.lines())
		}
	}
}

// lockedBuffer is a buffer for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.b.String()), "\n")
}

// has returns a check for a line with all of the words.
func has(words ...string) func(lines []string) error {
	return func(lines []string) error {
		if len(matching(lines, words...)) == 0 {
			return fmt.Errorf("no line with %q", words)
		}
		return nil
	}
}

// matching returns the lines with all of the words.
func matching(lines []string, words ...string) []string {
	var out []string
next:
	for _, line := range lines {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		out = append(out, line)
	}
	return out
}

// nodeIP returns the node's first address.
func nodeIP(t testing.TB, node string) string {
	t.Helper()
	return strings.Fields(kubectl(t, "get", "node", node, "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address}`))[0]
}
