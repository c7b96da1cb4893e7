package wire

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all of test/wire: the lab makes namespaces and cgroups and loads eBPF programs, and that needs root")
		return 0
	}
	// Rows wait, also for each other: all at once, however few processors there are.
	flag.Parse()
	if err := flag.Set("test.parallel", "10000"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	remove, err := lab.BuildForRun()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	defer remove()
	return m.Run()
}
