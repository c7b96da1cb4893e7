package docstest

import (
	"strings"
	"testing"
)

// What docs/support.md says was tried is what the tests use: versions of components, and
// what the cluster and install.sh are tried with. The table of kernels is written by
// make test-kernels.
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
		"| CNI | any | `" + version("test/cluster/node/config.go", `\{"type": "(\w+)", "ipMasq"`) + "` of the CNI plugins |",
		"| kube-proxy | any mode, or none | " + version("test/cluster/command/up.go", `"proxy-mode", "(\w+)"`) + " |",
		"| Linux | " + version("test/kernels/steps.go", `oldest = \[2\]int\{(\d+), \d+\}`) + "." + version("test/kernels/steps.go", `oldest = \[2\]int\{\d+, (\d+)\}`) + " or newer, with BTF | ",
		"| cgroups | v1, hybrid or v2 | hybrid; " + strings.ReplaceAll(version(".ci/run", `(?m)^step make test-cluster CGROUP=(\S+)`), ",", " alone and ") + " alone |",
		"| upgrade | from the minor version before | from " + version("test/released/released.go", `(?m)^\t\{"(v\d+\.\d+\.\d+)",`),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/support.md has no %q", want)
		}
	}
	// The shells and the programs that download.
	row := firsts(t, `(?m)^(\| .scripts/install.sh. \|.*)$`, page)[0]
	lists := version("internal/tools/release/install_test.go", `(?m)^\tshells\s*= (.*)$`) + version("internal/tools/release/install_test.go", `(?m)^\tdownloaders\s*= (.*)$`)
	for _, name := range firsts(t, `"([a-z]{3,})"`, lists) {
		if !strings.Contains(strings.ToLower(row), name) {
			t.Errorf("docs/support.md does not say that install.sh is tried with %s", name)
		}
	}
}
