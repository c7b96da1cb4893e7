// Package e2e tests the whole: real nodes and pods on this machine (test/lab),
// the real controller and agents, the real kernel. It needs root.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all end-to-end tests (test/e2e): the lab makes namespaces and cgroups and loads eBPF programs, and that needs root: sudo go test ./test/e2e")
		return 0
	}
	remove, err := lab.BuildForRun()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	defer remove()
	return m.Run()
}
