package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/cluster/kernel"
)

// mount turns the file systems of this mount namespace into the node's. They are
// read-only, except for the node's own directories. /proc, /sys, cgroups and BPF pins
// show the node and nothing of the machine.
func (in Init) mount() error {
	// Cgroups first: what the machine has mounted determines what the node gets.
	hierarchies, err := kernel.Hierarchies()
	if err != nil {
		return err
	}
	if hierarchies, err = view(hierarchies, in.Spec.CgroupOf(in.Node)); err != nil {
		return err
	}
	m := mounter{}
	m.mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")

	// Keep what is needed before another mount covers it.
	disk := func(name string) int { return m.hold(filepath.Join(in.Dir, name)) }
	conf, lib, logs := disk("conf"), disk("lib"), disk("log")
	etc, opt := disk("etc"), disk("opt")
	kubernetes, containerd := m.hold(in.Binaries.Kubernetes), m.hold(in.Binaries.Containerd)

	m.mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	m.mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755")
	for _, dir := range []string{"lock", "netns", "node/volume-plugins"} {
		m.mkdir("/run/" + dir)
	}
	for dir, tree := range map[string]int{"conf": conf, "kubernetes": kubernetes, "containerd": containerd, "etc": etc, "opt": opt} {
		m.mkdir(runDir + "/" + dir)
		m.attach(tree, runDir+"/"+dir)
	}
	m.attach(lib, "/var/lib")
	m.attach(logs, "/var/log")
	m.mount("tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	for _, dir := range []string{"etc", "opt"} {
		over := runDir + "/" + dir
		m.mount("overlay", "/"+dir, "overlay", 0, fmt.Sprintf("lowerdir=/%s,upperdir=%s/upper,workdir=%s/work", dir, over, over))
	}
	m.sys(hierarchies)
	m.mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	// Mounts of pods propagate if a pod asks for it.
	m.mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
	return m.err
}

// sys mounts a /sys that shows the node's network devices. Below it, it mounts each
// cgroup hierarchy from the node's root on, and a new BPF file system.
func (m *mounter) sys(hierarchies []kernel.Hierarchy) {
	m.unmount("/sys")
	m.mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	m.mount("bpf", "/sys/fs/bpf", "bpf", 0, "mode=700")
	several := hierarchies[0].Mount != cgroupMount
	if several {
		m.mount("tmpfs", cgroupMount, "tmpfs", 0, "mode=755")
	}
	for _, h := range hierarchies {
		kind := "cgroup"
		if h.V2 {
			kind = "cgroup2"
		}
		if several {
			m.mkdir(h.Mount)
		}
		m.mount(kind, h.Mount, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, strings.Join(h.Options, ","))
	}
}

// mounter does nothing after its first error.
type mounter struct{ err error }

func (m *mounter) mount(source, target, kind string, flags uintptr, data string) {
	if m.err != nil {
		return
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		m.err = fmt.Errorf("mount %s on %s (%s): %w", kind, target, data, err)
	}
}

func (m *mounter) mkdir(dir string) {
	if m.err == nil {
		m.err = os.MkdirAll(dir, 0o755)
	}
}

// unmount removes all mounts at and below dir.
func (m *mounter) unmount(dir string) {
	for m.err == nil {
		err := unix.Unmount(dir, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) { // no mount is left
			return
		}
		if err != nil {
			m.err = fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}

// hold clones the directory as a mount that is not attached yet.
func (m *mounter) hold(dir string) int {
	if m.err != nil {
		return -1
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		m.err = fmt.Errorf("clone mount of %s: %w", dir, err)
	}
	return fd
}

// attach attaches a mount from hold at target.
func (m *mounter) attach(tree int, target string) {
	if m.err != nil {
		return
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		m.err = fmt.Errorf("attach mount at %s: %w", target, err)
	}
}
