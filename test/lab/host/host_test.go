package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab/layout"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("left out: namespaces and cgroups need root")
	}
}

// scratch returns a cgroup and a directory for namespaces that only this test
// uses.
func scratch(t *testing.T) (cgroup, netns string) {
	t.Helper()
	needRoot(t)
	l, err := layout.Open(fmt.Sprintf("ulhost-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if err := MakeCgroup(l.CgroupRoot()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Clear(l); err != nil {
			t.Error(err)
		}
	})
	return l.CgroupRoot(), l.Netns("test")
}

func readLink(path string) string {
	s, _ := os.Readlink(path) // "" differs from every namespace
	return s
}

func TestThreadsLeaveNamespacesBehind(t *testing.T) {
	_, path := scratch(t)
	own := readLink("/proc/thread-self/ns/net") // the first thread may have been left in another one
	if err := NewNetns(path); err != nil {
		t.Fatal(err)
	}
	var inside string
	err := InNetns(path, func() error {
		inside = readLink("/proc/thread-self/ns/net")
		return errors.New("passed on")
	})
	if err == nil || err.Error() != "passed on" || inside == own || inside == "" {
		t.Errorf("inside %s (own %s), error %v; want another namespace and the error passed on", inside, own, err)
	}
	for range 20 { // threads that continue must not have been moved
		err := onThread(func() error {
			if now := readLink("/proc/thread-self/ns/net"); now != own {
				return fmt.Errorf("a thread is in %s", now)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := NewNetns(path); err == nil {
		t.Error("a second namespace with the same name: got no error, want one")
	}
	for range 2 {
		if err := DropNetns(path); err != nil {
			t.Error(err)
		}
	}
	if err := InNetns(path, func() error { return nil }); err == nil {
		t.Error("entering a removed namespace: got no error, want one")
	}
}

func TestPauseAndStart(t *testing.T) {
	cgroup, _ := scratch(t)
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 only-here\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	pause, err := Pause(cgroup, "a-pod", map[string]string{"/etc/hosts": hosts})
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "hostname; cat /etc/hosts; tail -1 /proc/self/cgroup")
	cmd.Stdout, cmd.Stderr = out, out
	if err := Start(cmd, Place{Cgroup: cgroup, Pid: pause.Process.Pid}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	got, _ := os.ReadFile(out.Name())
	if want := "a-pod\n127.0.0.1 only-here\n0::/" + filepath.Base(cgroup) + "\n"; string(got) != want {
		t.Errorf("inside the pod: %q, want %q", got, want)
	}
	if after, _ := os.ReadFile("/etc/hosts"); string(after) != string(before) {
		t.Error("the machine's own hosts file changed, want it unchanged")
	}
	if name, _ := os.Hostname(); name == "a-pod" {
		t.Error("the machine's own name changed, want it unchanged")
	}
	if pids := CgroupProcs(cgroup); len(pids) != 1 || pids[0] != pause.Process.Pid {
		t.Errorf("processes %v, want %d", pids, pause.Process.Pid)
	}
	sub := filepath.Join(cgroup, "a", "b")
	if err := MakeCgroup(sub); err != nil {
		t.Fatal(err)
	}
	if err := RemoveCgroup(cgroup); err != nil {
		t.Error(err)
	}
	if err := pause.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the pause process ended with %v, want it killed", err)
	}
	if err := RemoveCgroup(cgroup); err != nil {
		t.Errorf("removing it a second time: %v, want no error", err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if Owner(path) != 0 {
		t.Error("a lock that does not exist has an owner, want none")
	}
	lock, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := Owner(path); got != os.Getpid() {
		t.Errorf("owner %d, want %d", got, os.Getpid())
	}
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("locking a second time: got %v, want ErrLocked", err)
	}
	lock.Release()
	if Owner(path) != 0 {
		t.Error("a released lock has an owner, want none")
	}
	if lock, err = TryLock(path); err != nil {
		t.Fatal(err)
	}
	lock.Release()
}

func TestKillOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command("flock", path, "sh", "-c", `echo $$ >"$0"; exec sleep 1000`, path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	deadline := time.Now().Add(time.Minute)
	for Owner(path) == 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	pid := Owner(path)
	if pid == 0 {
		t.Fatal("no process holds the lock, want flock to")
	}
	// flock(1) waits for its child and releases the lock when the child has ended.
	if err := KillOwner(path, 5*time.Second); err != nil {
		t.Error(err)
	}
	if unix.Kill(pid, 0) == nil && Alive(pid) {
		t.Errorf("process %d still runs, want it gone", pid)
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "prog"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=/nowhere:" + dir}
	if got, err := LookPath("prog", env); err != nil || got != filepath.Join(dir, "prog") {
		t.Errorf("LookPath(prog) = %s, %v; want %s", got, err, filepath.Join(dir, "prog"))
	}
	for _, name := range []string{"data", "none", "./prog", ".."} {
		if got, err := LookPath(name, env); err == nil {
			t.Errorf("LookPath(%s) = %s, want an error", name, got)
		}
	}
}
