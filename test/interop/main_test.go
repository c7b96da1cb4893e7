package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/underlane/underlane/internal/rundir"
	"github.com/underlane/underlane/test/lab"
)

// programs are the programs that run in the pods in addition to the lab's, as
// packages of the module in programs.
var programs = []struct{ out, pkg string }{
	{"h2spec", "github.com/summerwind/h2spec/cmd/h2spec"},
	{"grpc-interop-client", "google.golang.org/grpc/interop/client"},
	{"grpc-interop-server", "google.golang.org/grpc/interop/server"},
	{"wstest", "./wstest"},
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all of test/interop: the lab makes namespaces and cgroups and loads eBPF programs, and that needs root")
		return 0
	}
	remove, err := lab.BuildForRun()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs of the lab:", err)
		return 1
	}
	defer remove()
	bin, removeBin, err := rundir.Make("interop-bin")
	if err == nil {
		defer removeBin()
		err = build(bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	os.Setenv(lab.BinVariable, bin)
	return m.Run()
}

// build fills a directory for the lab, which has it in the pods' PATH: with the lab's
// programs and those of this package.
func build(bin string) error {
	if err := os.CopyFS(bin, os.DirFS(os.Getenv(lab.BinVariable))); err != nil {
		return err
	}
	for _, p := range programs {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, p.out), p.pkg)
		cmd.Dir = "programs"
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", p.pkg, err, out)
		}
	}
	return nil
}
