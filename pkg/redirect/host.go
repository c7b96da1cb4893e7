package redirect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// AutoCgroup asks for the cgroup v2 root of the host, that is, of process 1. It works
// also in a container that has its own view of the cgroup file system.
const AutoCgroup = "auto"

const (
	bpffsMount   = "/sys/fs/bpf"
	cgroup2Mount = "/run/underlane/cgroup" // mounted on a host that has only cgroup v1
)

// hostCgroup returns the cgroup v2 root of the host. On a host that has only v1 it
// mounts one for this process. proc is the proc file system of the host.
func hostCgroup(proc string) (string, error) {
	root, err := findHostCgroup(proc)
	if root == "" && err == nil {
		return mountCgroup2(proc)
	}
	return root, err
}

// findHostCgroup returns "" if the host has only cgroup v1.
func findHostCgroup(proc string) (string, error) {
	if os.Getpid() == 1 && proc == "/proc" {
		return "", errors.New("find cgroup v2: the agent is process 1: its container must share the host's PID namespace (hostPID: true), or --cgroup-root be given")
	}
	file, err := os.Open(filepath.Join(proc, "1/mountinfo"))
	if err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	defer file.Close()
	mount := findCgroup2(file)
	if mount == "" {
		return "", nil
	}
	// In a container this path often leads to the container's own cgroup, and a hook
	// there would see only the container's sockets. The host's cgroup is reached
	// through the root directory of process 1.
	hosts := filepath.Join(proc, "1/root", mount)
	theirs, err := os.Stat(hosts)
	if err != nil {
		return "", fmt.Errorf("find cgroup v2 of the host: %w (needs CAP_SYS_PTRACE)", err)
	}
	if ours, err := os.Stat(mount); err == nil && os.SameFile(ours, theirs) {
		return mount, nil
	}
	return hosts, nil
}

// findCgroup2 returns the path where cgroup v2 is mounted, or "" if it is not mounted.
func findCgroup2(mountinfo io.Reader) string {
	var found []string
	for lines := bufio.NewScanner(mountinfo); lines.Scan(); {
		// ID parent major:minor root MOUNT options [tags…] - TYPE source options
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if ok && len(fields) > 4 && strings.HasPrefix(after, "cgroup2 ") {
			found = append(found, fields[4])
		}
	}
	for _, usual := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if slices.Contains(found, usual) {
			return usual
		}
	}
	if len(found) > 0 {
		return found[0]
	}
	return ""
}

// mountCgroup2 mounts the host's cgroup v2 hierarchy. It exists on a v1 host too, and
// all processes are in its root.
func mountCgroup2(proc string) (string, error) {
	if onFileSystem(cgroup2Mount, unix.CGROUP2_SUPER_MAGIC, "") == nil {
		return cgroup2Mount, nil
	}
	err := onThread(func() error {
		if err := enter(filepath.Join(proc, "1/ns/cgroup"), unix.CLONE_NEWCGROUP); err != nil {
			return err
		}
		if err := os.MkdirAll(cgroup2Mount, 0o700); err != nil {
			return err
		}
		return os.NewSyscallError("mount", unix.Mount("none", cgroup2Mount, "cgroup2", 0, ""))
	})
	if err != nil {
		return "", fmt.Errorf("this host has cgroup v1 only: mount cgroup2 at %s: %w", cgroup2Mount, err)
	}
	return cgroup2Mount, nil
}

// dropCgroup2 removes what mountCgroup2 has made at dir: the mount, if it is in this
// mount namespace, and the directory. It is no error if dir does not exist.
func dropCgroup2(dir string) error {
	if onFileSystem(dir, unix.CGROUP2_SUPER_MAGIC, "") == nil {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount cgroup2 from %s: %w", dir, err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove cgroup2's mount point: %w", err)
	}
	return nil
}

// ensureBPFFS mounts the bpf file system if the host has none. It mounts it in the
// host's mount namespace, because the pins must outlive the agent's container. If the
// pin root is not below the usual mount point, ensureBPFFS does nothing: the
// administrator has chosen another file system.
func ensureBPFFS(proc, pinRoot string) error {
	if pinRoot != bpffsMount && !strings.HasPrefix(pinRoot, bpffsMount+"/") {
		return nil
	}
	if onFileSystem(bpffsMount, unix.BPF_FS_MAGIC, "bpf") == nil {
		return nil
	}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := enter(filepath.Join(proc, "1/ns/mnt"), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("%w (needs CAP_SYS_ADMIN, CAP_SYS_CHROOT and CAP_SYS_PTRACE)", err)
		}
		if onFileSystem(bpffsMount, unix.BPF_FS_MAGIC, "") == nil {
			return nil
		}
		return os.NewSyscallError("mount", unix.Mount("bpf", bpffsMount, "bpf", 0, "mode=0700"))
	})
	if err == nil {
		err = onFileSystem(bpffsMount, unix.BPF_FS_MAGIC, "bpf") // a container sees it by mount propagation HostToContainer
	}
	if err != nil {
		return fmt.Errorf("this host has no bpf file system: mount one: %w: do `mount -t bpf bpf %s` on the node", err, bpffsMount)
	}
	return nil
}

// onThread runs f on a new thread, which ends with f. The namespaces that f enters
// therefore affect no other goroutine.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end: block it here and use another thread.
			done <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

func enter(namespace string, kind int) error {
	fd, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", namespace, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, kind); err != nil {
		return fmt.Errorf("setns %s: %w", namespace, err)
	}
	return nil
}
