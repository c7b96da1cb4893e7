package host

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is a file lock that the running supervisor of a lab holds. The kernel
// releases it when the process ends, however that happens.
type Lock struct{ f *os.File }

// ErrLocked is what TryLock returns while another process holds the lock.
var ErrLocked = errors.New("held by a running lab")

// TryLock takes the lock and writes this process's pid into the file.
func TryLock(path string) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock %s: %w", path, ErrLocked)
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !sameFile(f, path) { // its last owner removed it between our open and lock
			f.Close()
			continue
		}
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return nil, err
		}
		return &Lock{f}, nil
	}
}

// Release removes the file and releases the lock.
func (l *Lock) Release() {
	os.Remove(l.f.Name())
	l.f.Close()
}

func sameFile(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// Owner returns the pid of the process that holds the lock, 0 if there is none.
func Owner(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0 // closing the file releases it
	}
	text := make([]byte, 20)
	n, _ := f.Read(text)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	return pid
}

// KillOwner kills the holder of the lock and waits until the lock is free.
func KillOwner(path string, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		pid := Owner(path)
		if pid == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d holds %s and does not go away", pid, path)
		}
		unix.Kill(pid, unix.SIGKILL)
		time.Sleep(5 * time.Millisecond)
	}
}
