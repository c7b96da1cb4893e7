// Package e2e tests the whole: real nodes and pods on this machine (test/lab),
// the real controller and agents, the real kernel. It needs root.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all end-to-end tests (test/e2e): the lab makes namespaces and cgroups and loads eBPF programs, and that needs root: sudo go test ./test/e2e")
		return 0
	}
	if os.Getenv(lab.BinVariable) == "" {
		dir, err := buildAll()
		if err != nil {
			fmt.Fprintln(os.Stderr, "build the programs:", err)
			return 1
		}
		defer os.RemoveAll(dir)
		os.Setenv(lab.BinVariable, dir)
	}
	return m.Run()
}

// buildAll builds the programs into a directory of this run, so that no
// other build changes them under a running test.
func buildAll() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Dir(filepath.Dir(filepath.Dir(file)))
	dir, err := os.MkdirTemp("", "underlane-e2e-bin-")
	if err != nil {
		return "", err
	}
	args := []string{"build", "-o", dir + "/", "./cmd/agent", "./cmd/controller", "./test/lab/cmd/lab", "./test/lab/labtest"}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return dir, nil
}
