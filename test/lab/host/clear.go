package host

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab/layout"
)

// Clear removes everything of a lab from the machine: processes, cgroups, pins,
// network namespaces, files. It works after a crash and on a running lab whose
// supervisor is gone. It is no error if something does not exist.
func Clear(l layout.Layout) error {
	err := RemoveCgroup(l.CgroupRoot())
	if e := os.RemoveAll(l.PinRoot()); e != nil {
		err = errors.Join(err, fmt.Errorf("remove pins: %w", e))
	}
	for _, path := range NetnsWithPrefix(layout.NetnsDir, l.NetnsPrefix()) {
		err = errors.Join(err, DropNetns(path))
	}
	return errors.Join(err, os.RemoveAll(l.StateDir()))
}

// MountBPFFS mounts the BPF file system at its usual place if it is not mounted.
func MountBPFFS() error {
	var st unix.Statfs_t
	if err := unix.Statfs(layout.BPFFS, &st); err == nil && st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpffs", layout.BPFFS, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount bpffs at %s (a kernel without BPF?): %w", layout.BPFFS, err)
	}
	return nil
}
