package command

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFile waits until this process has locked the file. The lock lasts until release
// or the end of the process. Its holder may remove the file.
func (o *options) lockFile(path, whose string) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	for {
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
			o.say("waiting for %s...", whose)
			if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
				return nil, fmt.Errorf("lock %s: %w", path, err)
			}
		}
		var held, there unix.Stat_t
		if err := unix.Fstat(fd, &held); err != nil {
			return nil, fmt.Errorf("stat %s: %w", path, err)
		}
		if unix.Stat(path, &there) == nil && there.Ino == held.Ino {
			return func() { unix.Close(fd) }, nil
		}
		unix.Close(fd) // the file was removed meanwhile: no other process sees this lock
	}
}
