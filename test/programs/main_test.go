package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

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
	bin, err := os.MkdirTemp("", "underlane-programs-bin-")
	if err == nil {
		defer os.RemoveAll(bin)
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

// build builds our programs into a directory of this run, so that no other
// build changes them under it. The mesh's own are left out where the lab has been
// told of a directory that has them.
func build(bin string) error {
	builds := []struct{ dir, out, pkg string }{{"grpctest", "grpctest", "."}}
	if os.Getenv(lab.BinVariable) == "" {
		root := filepath.Join("..", "..")
		builds = append(builds, []struct{ dir, out, pkg string }{
			{root, "agent", "./cmd/agent"},
			{root, "controller", "./cmd/controller"},
			{root, "lab", "./test/lab/cmd/lab"},
			{root, "labtest", "./test/lab/labtest"},
		}...)
		os.Setenv(lab.BinVariable, bin)
	}
	for _, b := range builds {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, b.out), b.pkg)
		cmd.Dir = b.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", b.pkg, err, out)
		}
	}
	return nil
}
