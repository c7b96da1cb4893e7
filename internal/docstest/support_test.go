package docstest

import (
	"strings"
	"testing"
)

// The versions that docs/support.md says were tried are those of the tests.
func TestSupport(t *testing.T) {
	page := read(t, "docs/support.md")
	version := func(path, pattern string) string {
		t.Helper()
		found := firsts(t, pattern, read(t, path))
		if len(found) == 0 {
			t.Fatalf("%s has no %s", path, pattern)
		}
		return found[0]
	}
	for _, want := range []string{
		"| Kubernetes | " + version("daemonset/chart/underlane/Chart.yaml", `(?m)^kubeVersion: ">=(\d+\.\d+)`) + " or newer | " +
			version("test/cluster/components/kubernetes/go.mod", `(?m)^\s*k8s\.io/kubernetes v(\S+)`),
		"| containerd " + version("test/cluster/components/containerd/go.mod", `(?m)^\s*(?:require )?github\.com/containerd/containerd/v2 v(\S+)`),
		"| Helm | a chart of `apiVersion` v2 | " + version("test/cluster/components/helm/go.mod", `(?m)^\s*(?:require )?helm\.sh/helm/v4 v(\S+)`),
		"| Gateway API | 1.6 | " + version("go.mod", `(?m)^\s*sigs\.k8s\.io/gateway-api v(\S+)`),
		"| upgrade | from the minor version before | from " + version("test/released/released.go", `(?m)^\t\{"(v\d+\.\d+\.\d+)",`),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/support.md has no %q", want)
		}
	}
}
