// Package rundir makes directories for one run of a test binary or of a tool. A run that is
// killed cannot remove its directory, so the next run of the same name removes it.
package rundir

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// young is the age up to which a directory is never removed by another process, which may
// see it before its own process has locked it.
const young = time.Minute

// Make makes a directory underlane-run-NAME-* in os.TempDir, and removes those of this name
// whose processes have ended. remove removes the directory.
func Make(name string) (dir string, remove func(), err error) {
	prefix := "underlane-run-" + name + "-"
	sweep(filepath.Join(os.TempDir(), prefix+"*"), young)
	if dir, err = os.MkdirTemp("", prefix); err != nil {
		return "", nil, err
	}
	lock := tryLock(dir)
	return dir, func() {
		_ = os.RemoveAll(dir)
		unlock(lock)
	}, nil
}

// tryLock locks a directory, or returns -1 if another process has it, or if its file system
// has no locks. The lock is held until unlock, or the end of this process: the descriptor is
// no os.File, which would be closed when nothing refers to it. A lock and not the process's
// number says who has a directory: containers that share it count processes each for
// themselves.
func tryLock(dir string) (fd int) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unlock(fd)
		return -1
	}
	return fd
}

func unlock(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// sweep removes the directories that match and that nobody has locked, but for young ones.
func sweep(pattern string, young time.Duration) {
	found, _ := filepath.Glob(pattern) // the only error is of the pattern
	for _, dir := range found {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < young {
			continue
		}
		if fd := tryLock(dir); fd >= 0 {
			_ = os.RemoveAll(dir) // where it is another user's, it stays
			unlock(fd)
		}
	}
}
