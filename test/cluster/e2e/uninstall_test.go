package e2e

import (
	"strings"
	"testing"
)

// TestUninstallLeavesNothing checks that uninstall refuses while anything is labelled,
// and that it leaves nothing in the cluster and on the nodes. It takes away what the
// other tests use, so scripts/test-cluster.sh runs it alone, after them.
func TestUninstallLeavesNothing(t *testing.T) {
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("web", httpArgs)+service("web", []string{"80:8080"})+deployment("client", clientArgs))
	ready(t, ns, "deploy/web", "deploy/client")
	client := podOf(t, ns, "client")
	enrolled(t, ns, client, podOf(t, ns, "web"))

	if out, err := tryUnderlane(t, "uninstall", "--apply"); err == nil {
		t.Fatalf("uninstalled while %s is labelled, want it refused:\n%s", ns, out)
	} else if !strings.Contains(err.Error(), ns) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("got the refusal %v, want it to name the labelled namespace and --force", err)
	}
	underlane(t, "uninstall", "--apply", "--force")

	for _, kind := range []string{"clusterrole", "clusterrolebinding", "apiservice", "crd", "namespace"} {
		if left := kubectl(t, "get", kind, "-o", "name"); strings.Contains(left, "underlane") {
			t.Errorf("%s: got %s, want nothing left", kind, left)
		}
	}
	// The user's own labels stay; annotations that the controller wrote on pods go.
	for line := range strings.Lines(kubectl(t, "get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.annotations}{"\n"}{end}`)) {
		if strings.Contains(line, "underlane.io/status") || strings.Contains(line, "underlane.io/enrolled") {
			t.Errorf("got the annotation %s, want none left", line)
		}
	}
	for _, node := range []string{"node-1", "node-2"} {
		left, err := try(t.Context(), "", "exec", node, "--", "sh", "-c", "find /sys/fs/bpf -mindepth 1 ! -name '*.debug'; ls /run/underlane 2>/dev/null; true")
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(left) != "" {
			t.Errorf("%s: want nothing left, got:\n%s", node, left)
		}
	}
	// The pods continue without the mesh and were not restarted.
	eventually(t, patience, func() error {
		_, err := in(t, ns, client, "/labtest", "get", "http://web/after")
		return err
	})
}
