package e2e

import (
	"strings"
	"testing"
)

// The last test, by its file's name: uninstall refuses while anything is
// labelled, and afterwards nothing is left in the cluster and on no node.
func TestUninstallLeavesNothing(t *testing.T) {
	ns := newNamespace(t, "underlane.io/mesh=enabled")
	apply(t, ns, deployment("web", httpArgs)+service("web", []string{"80:8080"})+deployment("client", clientArgs))
	ready(t, ns, "deploy/web", "deploy/client")
	client := podOf(t, ns, "client")
	enrolled(t, ns, client, podOf(t, ns, "web"))

	if out, err := tryUnderlane(t, "uninstall", "--apply"); err == nil {
		t.Fatalf("uninstalled although %s is labelled:\n%s", ns, out)
	} else if !strings.Contains(err.Error(), ns) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("the refusal does not say what is labelled, or how to go on: %v", err)
	}
	underlane(t, "uninstall", "--apply", "--force")

	for _, kind := range []string{"clusterrole", "clusterrolebinding", "apiservice", "crd", "namespace"} {
		if left := kubectl(t, "get", kind, "-o", "name"); strings.Contains(left, "underlane") {
			t.Errorf("%s is left: %s", kind, left)
		}
	}
	// The user's own labels stay; what was written on pods goes.
	for line := range strings.Lines(kubectl(t, "get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.annotations}{"\n"}{end}`)) {
		if strings.Contains(line, "underlane.io/status") || strings.Contains(line, "underlane.io/enrolled") {
			t.Errorf("an annotation is left: %s", line)
		}
	}
	for _, node := range []string{"node-1", "node-2"} {
		left, err := try(t.Context(), "", "exec", node, "--", "sh", "-c", "find /sys/fs/bpf -mindepth 1 ! -name '*.debug'; ls /run/underlane 2>/dev/null; true")
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(left) != "" {
			t.Errorf("%s has left-overs:\n%s", node, left)
		}
	}
	// The pods live on without the mesh, and were not restarted.
	eventually(t, patience, func() error {
		_, err := in(t, ns, client, "/labtest", "get", "http://web/after")
		return err
	})
}
