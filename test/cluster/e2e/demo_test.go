package e2e

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDemo runs the lab's demo on the cluster with the same checks.
func TestDemo(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "test/cluster/demo/run.sh"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
