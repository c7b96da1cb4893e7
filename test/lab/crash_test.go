package lab_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab"
	"github.com/underlane/underlane/test/lab/host"
	"github.com/underlane/underlane/test/lab/layout"
)

func TestDownLeavesNothing(t *testing.T) {
	l := lab.Up(t, lab.Options{Bin: fakeBin}, pod("a", "sleep", "1000"))
	gone := watchRemains(t, l)
	must(t, lab.Run(l.Command("down")))
	assertNothingLeft(t, l.Name())
	gone()
	must(t, lab.Run(l.Command("down"))) // a second time is no error
}

func TestKilledSupervisorLeavesNothing(t *testing.T) {
	for _, cure := range []string{"down", "up"} {
		t.Run(cure, func(t *testing.T) {
			l := lab.Up(t, lab.Options{Bin: fakeBin}, pod("a", "sh", "-c", "sleep 1000 & sleep 1000"))
			// A program that the lab did not start runs inside, too.
			inside := l.PodCommand("a", "sleep", "1000")
			if err := inside.Start(); err != nil {
				t.Fatal(err)
			}
			defer inside.Wait()
			gone := watchRemains(t, l)
			pid := supervisor(t, l)
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			awaitEnd(l, pid)
			if r := lab.Run(l.Command("pods")); r.Code == 0 {
				t.Errorf("`lab pods` of a dead lab: got %s, want a failure", r)
			}
			if cure == "up" {
				must(t, lab.Run(l.Command("up", "--no-mesh", "--nodes", "1", "testdata/late.yaml")))
				if n := len(l.State().Pods); n != 1 {
					t.Errorf("%d pods after a second up, want 1", n)
				}
				gone()
				must(t, lab.Run(l.Command("down")))
			} else {
				must(t, lab.Run(l.Command("down")))
				gone()
			}
			assertNothingLeft(t, l.Name())
		})
	}
}

func TestHungSupervisorIsTakenDown(t *testing.T) {
	l := lab.Up(t, lab.Options{NoMesh: true, Nodes: 1}, pod("a", "sleep", "1000"))
	gone := watchRemains(t, l)
	if err := unix.Kill(supervisor(t, l), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	must(t, lab.Run(l.Command("down")))
	assertNothingLeft(t, l.Name())
	gone()
}

func TestLabFollowsItsOwner(t *testing.T) {
	l := lab.New(t)
	owner := exec.Command("sleep", "1000")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	defer owner.Wait()
	defer owner.Process.Kill()
	file := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(file, []byte(pod("a", "sleep", "1000")), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, lab.Run(l.Command("up", "--no-mesh", "--owner", strconv.Itoa(owner.Process.Pid), file)))
	gone := watchRemains(t, l)
	pid := supervisor(t, l)
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitEnd(l, pid)
	assertNothingLeft(t, l.Name())
	gone()
}

// awaitEnd waits until a process has ended.
func awaitEnd(l *lab.Lab, pid int) {
	l.Eventually(30*time.Second, func() error {
		if host.Alive(pid) {
			return fmt.Errorf("process %d is still there", pid)
		}
		return nil
	})
}

func supervisor(t *testing.T, l *lab.Lab) int {
	t.Helper()
	pid := host.Owner("/run/" + l.Name() + ".lock")
	if pid == 0 {
		t.Fatal("no process holds the lab's lock, want the supervisor to")
	}
	return pid
}

// watchRemains records the processes and network namespaces of a lab. The
// function that it returns fails the test if one of them still exists.
func watchRemains(t *testing.T, l *lab.Lab) func() {
	t.Helper()
	lay, err := layout.Open(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	pids := append(host.CgroupProcs(lay.CgroupRoot()), supervisor(t, l))
	if len(pids) < 3 {
		t.Fatalf("the lab has the processes %v, want 3 or more", pids)
	}
	spaces := map[string]string{}
	for _, path := range host.NetnsWithPrefix(layout.NetnsDir, lay.NetnsPrefix()) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() }) // keep it open: a new namespace would otherwise get the same number
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		spaces[fmt.Sprintf("net:[%d]", inode(st))] = path
	}
	if len(spaces) < 4 {
		t.Fatalf("the lab has the namespaces %v, want 4 or more", spaces)
	}
	return func() {
		t.Helper()
		for _, pid := range pids {
			awaitEnd(l, pid) // a killed process leaves its cgroup before it has ended
		}
		links, _ := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
		for _, link := range links {
			ns, _ := os.Readlink(link) // if it is gone, it is in no namespace
			if path := spaces[ns]; path != "" {
				t.Errorf("%s still refers to the namespace %s, want it gone", link, path)
			}
		}
	}
}

// assertNothingLeft fails the test if anything on the machine still has the lab's
// name.
func assertNothingLeft(t *testing.T, name string) {
	t.Helper()
	lay, err := layout.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	left := host.NetnsWithPrefix(layout.NetnsDir, lay.NetnsPrefix())
	for _, path := range []string{lay.StateDir(), lay.LockFile(), lay.CgroupRoot(), lay.PinRoot()} {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path)
		}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, name) {
			left = append(left, "mount "+line)
		}
	}
	if len(left) > 0 {
		t.Errorf("got the left-overs %q, want none", left)
	}
}

func inode(st os.FileInfo) uint64 { return st.Sys().(*syscall.Stat_t).Ino }
