// Package host is the lab's interface to the kernel: named network namespaces,
// cgroups, running programs inside a pod's namespaces, and removing what a crashed
// lab left. It needs root.
package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// NewNetns makes a network namespace and names it with a bind mount at path, as
// `ip netns add` does.
func NewNetns(path string) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace (root?): %w", err)
		}
		return NameNetns("/proc/thread-self/ns/net", path)
	})
}

// NameNetns names the network namespace at source with a bind mount at path. `ip netns`
// may make and remove other names in the same directory meanwhile.
func NameNetns(source, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := shareNetnsDir(dir); err != nil {
		return fmt.Errorf("name network namespace: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("name network namespace: %w", err)
	}
	f.Close()
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("name network namespace: bind %s: %w", path, err)
	}
	return nil
}

// DropNetns removes a namespace's name. The namespace ends with its last process
// and socket.
func DropNetns(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// NetnsWithPrefix returns the paths of the namespaces in dir whose name has the
// prefix.
func NetnsWithPrefix(dir, prefix string) []string {
	entries, _ := os.ReadDir(dir) // no directory: no namespaces
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

// InNetns runs f on a thread inside the network namespace at path. The thread is
// ended afterwards. Goroutines that f starts are not inside.
func InNetns(path string, f func() error) error {
	return onThread(func() error {
		if err := EnterNetns(path); err != nil {
			return err
		}
		return f()
	})
}

// EnterNetns moves the calling thread into the network namespace at path. The
// thread must be locked to its goroutine and must not be reused.
func EnterNetns(path string) error { return enter(path, unix.CLONE_NEWNET) }

// InProcess runs f on a thread inside the network, UTS and mount namespaces of
// process pid, which are those of a pod.
func InProcess(pid int, f func() error) error {
	return onThread(func() error {
		if err := enterProcess(pid); err != nil {
			return err
		}
		return f()
	})
}

// enterProcess moves the calling thread into the namespaces of process pid. The
// thread must be locked to its goroutine and must not be reused.
func enterProcess(pid int) error {
	// The kernel does not let a thread change its mount namespace while it shares
	// its root and working directory with other threads.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the process's file system view: %w", err)
	}
	for _, ns := range []struct {
		name string
		flag int
	}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"mnt", unix.CLONE_NEWNS}} {
		if err := enter(fmt.Sprintf("/proc/%d/ns/%s", pid, ns.name), ns.flag); err != nil {
			return err
		}
	}
	return nil
}

func enter(path string, flag int) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, flag); err != nil {
		return fmt.Errorf("enter namespace %s: %w", path, err)
	}
	return nil
}

// onThread runs f on an operating system thread that no other goroutine uses
// afterwards. The thread stays locked, so the runtime ends it with the goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
