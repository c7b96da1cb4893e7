package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

// programs are the programs that run in the pods in addition to the lab's: where
// to build them, and what.
var programs = []struct{ dir, out, pkg string }{
	{"../..", "agent", "./cmd/agent"},
	{"../..", "controller", "./cmd/controller"},
	{"../..", "lab", "./test/lab/cmd/lab"},
	{"../..", "labtest", "./test/lab/labtest"},
	{"programs", "h2spec", "github.com/summerwind/h2spec/cmd/h2spec"},
	{"programs", "grpc-interop-client", "google.golang.org/grpc/interop/client"},
	{"programs", "grpc-interop-server", "google.golang.org/grpc/interop/server"},
	{"programs", "wstest", "./wstest"},
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all of test/interop: the lab makes namespaces and cgroups and loads eBPF programs, and that needs root")
		return 0
	}
	bin, err := os.MkdirTemp("", "underlane-interop-bin-")
	if err == nil {
		defer os.RemoveAll(bin)
		err = build(bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	os.Setenv(lab.BinVariable, bin)
	return m.Run()
}

// build builds the programs into a directory in the pods' PATH.
func build(bin string) error {
	for _, p := range programs {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, p.out), p.pkg)
		cmd.Dir = p.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", p.pkg, err, out)
		}
	}
	return nil
}
