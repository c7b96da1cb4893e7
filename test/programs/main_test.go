package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/underlane/underlane/internal/rundir"
	"github.com/underlane/underlane/test/lab"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// scriptEnv is the environment of all scripts.
var scriptEnv []string

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all of test/programs: the lab makes namespaces and cgroups and loads eBPF programs, and that needs root")
		return 0
	}
	remove, err := lab.BuildForRun()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs of the lab:", err)
		return 1
	}
	defer remove()
	bin, removeBin, err := rundir.Make("programs-bin")
	if err == nil {
		defer removeBin()
		err = build(bin)
	}
	if err == nil {
		scriptEnv, err = environment(bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare the programs:", err)
		return 1
	}
	return m.Run()
}

// build builds the program of this package into a directory.
func build(bin string) error {
	cmd := exec.Command("go", "build", "-o", filepath.Join(bin, "grpctest"), ".")
	cmd.Dir = "grpctest"
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("grpctest: %w\n%s", err, out)
	}
	return nil
}
