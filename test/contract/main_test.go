package contract

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/internal/rundir"
	"github.com/underlane/underlane/test/contract/schedule"
	"github.com/underlane/underlane/test/lab"
)

var (
	seedFlag    = flag.Uint64("contract.seed", 0, "first seed; 0: the fixed ones, or with -contract.time one of the clock")
	timeFlag    = flag.Duration("contract.time", 0, "schedule after schedule until this time has passed")
	faultsFlag  = flag.Int("contract.faults", 8, "number of faults of a schedule")
	overlapFlag = flag.Int("contract.overlap", 1, "number of faults that are there at the same time")
	kindsFlag   = flag.String("contract.kinds", "", "kinds of faults, with commas; all if empty")
	peerBinary  string // the program of the pods
)

// kinds are those of the flag.
func kinds() []schedule.Kind {
	var out []schedule.Kind
	for k := range strings.SplitSeq(*kindsFlag, ",") {
		if k != "" {
			out = append(out, schedule.Kind(k))
		}
	}
	return out
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all of test/contract: the lab makes namespaces and cgroups and loads eBPF programs, and that needs root")
		return 0
	}
	dir, remove, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	defer remove()
	if os.Getenv(lab.BinVariable) == "" {
		os.Setenv(lab.BinVariable, dir)
	}
	return m.Run()
}

// build builds the programs into a directory of this run, so that no other build changes
// them under it.
func build() (dir string, remove func(), err error) {
	dir, remove, err = rundir.Make("contract-bin")
	if err != nil {
		return "", nil, err
	}
	peerBinary = filepath.Join(dir, "peer")
	args := []string{"build", "-o", dir + "/", "./test/contract/peer"}
	if os.Getenv(lab.BinVariable) == "" {
		args = append(args, "./cmd/agent", "./cmd/controller", "./test/lab/cmd/lab", "./test/lab/labtest")
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return dir, remove, nil
}

// patience bounds every wait: the machine may be slow, and a product that hangs must
// still fail.
const patience = time.Minute
