// Package host is the lab's hold on the kernel: network namespaces with
// names, cgroups, running a program inside a pod's namespaces, and clearing
// what a crashed lab left. It needs root.
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

// NewNetns makes a network namespace and gives it a name: a bind mount at
// path, as `ip netns add` does.
func NewNetns(path string) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace (root?): %w", err)
		}
		return NameNetns("/proc/thread-self/ns/net", path)
	})
}

// NameNetns gives the network namespace at source a name.
func NameNetns(source, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
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

// DropNetns takes a namespace's name away. The namespace goes when its last
// process and socket do.
func DropNetns(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// NetnsWithPrefix lists the named namespaces in dir whose name has the prefix.
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

// InNetns runs f on a thread inside the network namespace at path. The thread
// is thrown away afterwards. Goroutines that f starts are not inside.
func InNetns(path string, f func() error) error {
	return onThread(func() error {
		if err := EnterNetns(path); err != nil {
			return err
		}
		return f()
	})
}

// EnterNetns moves the calling thread, which must be locked and is spoilt, into
// the network namespace at path.
func EnterNetns(path string) error { return enter(path, unix.CLONE_NEWNET) }

// InProcess runs f on a thread inside the network, UTS and mount namespaces
// of process pid: what a pod is made of.
func InProcess(pid int, f func() error) error {
	return onThread(func() error {
		if err := enterProcess(pid); err != nil {
			return err
		}
		return f()
	})
}

// enterProcess moves the calling thread, which must be locked and is spoilt.
func enterProcess(pid int) error {
	// A thread that shares its root and working directory with others may
	// not change its mount namespace.
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

// onThread runs f on an operating system thread that no other goroutine has
// used after f: it stays locked, so the runtime ends it with the goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
