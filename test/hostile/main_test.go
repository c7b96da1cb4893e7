package hostile

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/underlane/underlane/test/lab"
)

var (
	full   = flag.Bool("full", false, "all attacks, with a lab without the mesh beside: make hostile")
	beside = flag.Bool("peers", false, "the attacks on shared proxies of other projects, beside the mesh: make hostile-peers")
	lowest = flag.Int("nice", lowestNice, "priority of attackers: 19 is SCHED_IDLE; less where other programs have the lowest one, too")
	rounds = flag.Int("rounds", 2, "of calm and attack, in the full form")
	tries  = flag.Int("tries", 3, "of an attack that does what the open list does not say, in the full form")
)

func TestMain(m *testing.M) {
	if text := os.Getenv(orderVariable); text != "" {
		os.Exit(perform(text)) // in a pod
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Println("left out: all of test/hostile: the lab makes namespaces and cgroups and loads eBPF programs, and that needs root")
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
