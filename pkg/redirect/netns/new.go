package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// New makes a network namespace, which ends when it is closed and nothing is in it. Its
// loopback interface is down. It needs CAP_SYS_ADMIN.
func New() (*NS, error) {
	type result struct {
		ns  *NS
		err error
	}
	made := make(chan result)
	var enter func()
	enter = func() {
		runtime.LockOSThread() // never unlocked: the thread ends in its new namespace
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and its namespace would be the process's
			// from now on: block it here and use another thread.
			done := make(chan struct{})
			go func() { defer close(done); enter() }()
			<-done
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{err: fmt.Errorf("make network namespace: %w", os.NewSyscallError("unshare", err))}
			return
		}
		ns, err := Open("/proc/thread-self/ns/net")
		made <- result{ns, err}
	}
	go enter()
	r := <-made
	return r.ns, r.err
}
