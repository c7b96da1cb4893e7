//go:build go1.26 && !go1.27

package rawio

import (
	"os"
	_ "unsafe" // for go:linkname
)

// What a Conn uses of Go's netpoller: its interface to package internal/poll. The linker lets
// other packages use it, but another version of Go may take it away or change it: the build
// constraint names the versions for which the package's tests have passed. Without it
// (netpoll_other.go) everything works as well, and takes one system call more for most reads, and
// more processor time for short connections.
//
// A mode is 'r', 'w', or, of a deadline, their sum.

//go:linkname runtimePollServerInit internal/poll.runtime_pollServerInit
func runtimePollServerInit()

// runtimePollOpen adds a descriptor that does not block. errno is 0, or that of the kernel.
//
//go:linkname runtimePollOpen internal/poll.runtime_pollOpen
func runtimePollOpen(fd uintptr) (desc uintptr, errno int)

// runtimePollUnblock makes all waits return, now and later. It must be called once, before
// runtimePollClose.
//
//go:linkname runtimePollUnblock internal/poll.runtime_pollUnblock
func runtimePollUnblock(desc uintptr)

// runtimePollClose takes a descriptor off that is still open, and that nothing waits for.
//
//go:linkname runtimePollClose internal/poll.runtime_pollClose
func runtimePollClose(desc uintptr)

// runtimePollReset forgets what was noticed until now. It returns what runtimePollWait does.
//
//go:linkname runtimePollReset internal/poll.runtime_pollReset
func runtimePollReset(desc uintptr, mode int) (code int)

// runtimePollWait waits until the netpoller has noticed, since the last wait of this mode, that
// the descriptor is ready. It returns 0, or a code that pollError knows. The caller keeps the
// descriptor from being closed meanwhile. runtimePollUnblock ends the wait.
//
//go:linkname runtimePollWait internal/poll.runtime_pollWait
func runtimePollWait(desc uintptr, mode int) (code int)

// runtimePollSetDeadline makes waits end in so many nanoseconds, at once if that is less than 0. 0:
// there is no deadline.
//
//go:linkname runtimePollSetDeadline internal/poll.runtime_pollSetDeadline
func runtimePollSetDeadline(desc uintptr, left int64, mode int)

// The codes of runtimePollWait (runtime/netpoll.go). Others mean that the file was closed.
const (
	pollTimeout = 2
	pollFailed  = 3 // the kernel reports nothing but an error
)

// pollError returns the error of a code of runtimePollWait other than 0.
func pollError(code int) error {
	if code == pollTimeout {
		return os.ErrDeadlineExceeded
	}
	return os.ErrClosed
}
