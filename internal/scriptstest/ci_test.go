package scriptstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCIRefusesFullDisk checks that .ci/run says so at once, and begins nothing.
func TestCIRefusesFullDisk(t *testing.T) {
	bin := t.TempDir()
	began := filepath.Join(bin, "began")
	for name, script := range map[string]string{
		"df":   "echo Avail\necho 11999\n", // MB
		"make": "touch " + began + "\nexit 1\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "../../.ci/run")
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if want := "has 11 GB free, and CI needs 12"; err == nil || !strings.Contains(string(out), want) || strings.Count(string(out), "\n") != 1 {
		t.Errorf("got %v and\n%swant one line that says %q", err, out, want)
	}
	if _, err := os.Stat(began); err == nil {
		t.Error("it has begun all the same")
	}
}
