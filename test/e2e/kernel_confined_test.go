package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
)

// TestAgentIsConfined: an agent that runs has only the capabilities that it needs and a
// filter of system calls, on every thread, also on those that were there before. All other
// tests run with agents that are confined so.
func TestAgentIsConfined(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(serverPod("server", node1)))
	waitEnrolled(t, l, "default/server")
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", nodeOf(t, l, node1).Agent.Pid))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("threads of the agent: %v, %v", tasks, err)
	}
	want := map[string]string{
		"CapPrm":     fmt.Sprintf("%016x", uint64(1)<<unix.CAP_SYS_ADMIN|1<<unix.CAP_NET_ADMIN|1<<unix.CAP_SYS_PTRACE),
		"CapInh":     fmt.Sprintf("%016x", 0),
		"CapAmb":     fmt.Sprintf("%016x", 0),
		"NoNewPrivs": "1",
		"Seccomp":    "2",
	}
	want["CapEff"] = want["CapPrm"]
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			if value = strings.TrimSpace(value); want[key] != "" && value != want[key] {
				t.Errorf("%s: %s is %s, want %s", task, key, value, want[key])
			}
		}
	}
}
