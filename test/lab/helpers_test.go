package lab_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/host"
)

// pod returns the manifest of a pod in the namespace default. The object begins
// on line 6.
func pod(name string, command ...string) string {
	return fmt.Sprintf(`# A pod that a test needs
# for one thing only.
---

# With comments around it.
apiVersion: v1
kind: Pod
metadata:
  name: %s
spec:
  containers:
    - name: main
      command: ["%s"]
`, name, strings.Join(command, `","`))
}

func withPort(manifest string) string {
	return manifest + "      ports: [{containerPort: 9999}]\n"
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func replicas(s api.State, deployment string) int {
	n := 0
	for _, p := range s.Pods {
		if p.Deployment == deployment && p.Ready {
			n++
		}
	}
	return n
}

// must fails the test if a command of the lab has failed.
func must(t *testing.T, r lab.Result) lab.Result {
	t.Helper()
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r
}

// killIn kills the processes with that name in a cgroup.
func killIn(t *testing.T, cgroup, name string) {
	t.Helper()
	killed := 0
	for _, pid := range host.CgroupProcs(cgroup) {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // "" for a process that is gone
		if strings.TrimSpace(string(comm)) == name {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			killed++
		}
	}
	if killed == 0 {
		t.Fatalf("found no process %s in %s, want one", name, cgroup)
	}
}
