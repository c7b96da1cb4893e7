package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
	"golang.org/x/sys/unix"
)

// TestHostThroughProcess1: the hierarchies are those of process 1, below its root directory,
// without those that another mount hides.
func TestHostThroughProcess1(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{
		"proc/1/mountinfo":            "29 23 0:24 / /hidden rw - cgroup cgroup rw,cpu\n30 23 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"proc/1/root/sys/fs/cgroup/x": "of process 1",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	trees, err := Host(filepath.Join(dir, "proc"))
	if err != nil {
		t.Fatal(err)
	}
	if len(trees) != 1 || !trees[0].V2 {
		t.Fatalf("got %+v, want one hierarchy of version 2", trees)
	}
	if text, err := fs.ReadFile(trees[0].FS, "x"); string(text) != "of process 1" {
		t.Errorf("a file of the hierarchy: %q, %v; want that of process 1", text, err)
	}
	if trees, err := Host(filepath.Join(dir, "none")); err == nil {
		t.Errorf("without a proc file system: got %v, want an error", trees)
	}
}

// TestHostWithoutRights: an agent that may not use the root directory of process 1 reads the
// hierarchies that it sees itself.
func TestHostWithoutRights(t *testing.T) {
	nstest.RequireRoot(t)
	type answer struct {
		trees []Tree
		err   error
		shut  error // of the root directory of process 1
	}
	got := make(chan answer)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		none := [2]unix.CapUserData{}
		if err := unix.Capset(&header, &none[0]); err != nil {
			got <- answer{err: err}
			return
		}
		_, shut := os.Stat("/proc/1/root/")
		trees, err := Host("/proc")
		got <- answer{trees, err, shut}
	}()
	a := <-got
	if a.err != nil {
		t.Fatal(a.err)
	}
	if !errors.Is(a.shut, fs.ErrPermission) {
		t.Fatalf("the root directory of process 1 without capabilities: %v, want no permission", a.shut)
	}
	own, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var have []Mount
	for _, tree := range a.trees {
		have = append(have, Mount{V2: tree.V2, Controllers: tree.Controllers})
	}
	want := Mounts(string(own))
	for i := range want {
		want[i].Path = ""
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("hierarchies (-want +got):\n%s", diff)
	}
}
