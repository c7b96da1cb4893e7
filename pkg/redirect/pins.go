package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// lockPins makes the pin directory and locks it for this process. It fails if another
// agent of the node has the lock.
func lockPins(root string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Join(root, linksDir), 0o700); err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, fmt.Errorf("pin directory %s: %w", root, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		os.Remove(filepath.Join(root, linksDir))
		os.Remove(root)
		return nil, fmt.Errorf("pin directory %s is not on a bpf file system: mount -t bpf bpf /sys/fs/bpf", root)
	}
	dir, err := os.Open(root)
	if err != nil {
		return nil, fmt.Errorf("pin directory: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another agent runs on this node: it holds %s", root)
		}
		return nil, fmt.Errorf("lock pin directory: %w", err)
	}
	return dir, nil
}

// Cleanup removes all pins below root, and with them all programs, links and maps of
// Underlane: traffic then flows as if Underlane had never been installed. If cgroupRoot
// is "" or AutoCgroup, so that the user has not chosen it, Cleanup also removes the
// mount that was made for a v1 host. It fails while an agent runs.
func Cleanup(root, cgroupRoot string) error {
	if root == "" {
		root = DefaultPinRoot
	}
	ours := cgroupRoot == "" || cgroupRoot == AutoCgroup
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return dropIf(ours)
	}
	lock, err := lockPins(root)
	if err != nil {
		return fmt.Errorf("cleanup: %w", err)
	}
	defer lock.Close()
	return errors.Join(removePins(root), dropIf(ours))
}

// Cleanup closes the datapath and removes its pins.
func (d *Datapath) Cleanup() error {
	err := d.Close()
	return errors.Join(err, removePins(d.opts.PinRoot), dropIf(d.opts.CgroupRoot == cgroup2Mount))
}

func dropIf(ours bool) error {
	if !ours {
		return nil
	}
	return dropCgroup2(cgroup2Mount)
}

// dropUnusable removes the pins of maps that this version's programs cannot use. The links
// stay: a pod's sk_lookup link keeps the old program, which has its own maps, until the pod is
// enrolled again. Without that link a strict pod would be open.
func (d *programs) dropUnusable(spec *ebpf.CollectionSpec) error {
	for name, want := range spec.Maps {
		path := filepath.Join(d.opts.PinRoot, name)
		if _, err := os.Stat(path); err != nil || want.Pinning != ebpf.PinByName {
			continue
		}
		m, err := ebpf.LoadPinnedMap(path, nil)
		if err == nil {
			err = usable(want, m)
			m.Close()
		}
		if err == nil {
			continue
		}
		d.log.Warn("a pinned map is of another version: starting with a new one", "map", path, "cause", err)
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove pin of another version: %w", err)
		}
	}
	return nil
}

// removePins removes the pins of links first: without the hooks, no program uses the
// maps any more.
func removePins(root string) error {
	var errs []error
	for _, dir := range []string{filepath.Join(root, linksDir), root} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, e := range entries {
			if !e.IsDir() {
				errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
		errs = append(errs, os.Remove(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}
