// Package prometheus tests what others show of the mesh: a Prometheus with the chart's
// configuration scrapes the demo in the lab, and all queries of the dashboards and all rules
// have data. So do the queries of dashboards and commands that were made for Linkerd. It
// needs root and Debian's package prometheus.
package prometheus

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all of test/prometheus: the lab makes namespaces and cgroups and loads eBPF programs, and that needs root")
		return 0
	}
	remove, err := lab.BuildForRun()
	if err == nil {
		defer remove()
		// The demo's program, beside those of the lab.
		build := exec.Command("go", "build", "-o", os.Getenv(lab.BinVariable)+"/", "../demo/cmd/emojivote")
		build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	return m.Run()
}
