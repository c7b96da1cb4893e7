//go:build go1.26 && !go1.27

package rawio

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// descriptor is a socket and its place in the netpoller. It does what an os.File does for a
// socket, and implements syscall.RawConn, but closes the socket by a raw system call. The runtime
// knows of the call that closes a file. While the program is not busy, it wakes the thread that
// watches over long system calls for it, which then looks every 20 µs for a millisecond or more.
//
// There is no finalizer: a socket that nobody closes stays open.
type descriptor struct {
	fd   int
	poll uintptr // its place in the netpoller

	// users is twice the number of calls that use the socket, and one more once it is to be
	// closed. The last of them closes it.
	users   atomic.Int64
	reading sync.Mutex // one Read and one Write at a time
	writing sync.Mutex
	closed  sync.WaitGroup // Close waits for the last user
}

var _ syscall.RawConn = (*descriptor)(nil)

const (
	oneUser = 2
	closing = 1
)

// errFailed: the netpoller has heard of an error, and of nothing else. The next system call says
// which.
var errFailed = errors.New("not pollable")

var startPoller sync.Once

// newDescriptor takes ownership of a socket that does not block. It closes the socket if it fails.
func newDescriptor(fd int) (*descriptor, error) {
	startPoller.Do(runtimePollServerInit)
	poll, errno := runtimePollOpen(uintptr(fd))
	if errno != 0 {
		unix.Close(fd)
		return nil, os.NewSyscallError("epoll_ctl", syscall.Errno(errno))
	}
	d := &descriptor{fd: fd, poll: poll}
	d.closed.Add(1)
	return d, nil
}

// enter begins a call that uses the socket. False: it is closed, or about to be.
func (d *descriptor) enter() bool {
	for {
		n := d.users.Load()
		if n&closing != 0 {
			return false
		}
		if d.users.CompareAndSwap(n, n+oneUser) {
			return true
		}
	}
}

// leave ends the call.
func (d *descriptor) leave() {
	if d.users.Add(-oneUser) != closing {
		return
	}
	runtimePollClose(d.poll)
	_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(d.fd), 0, 0) // Linux closes it, whatever it returns
	d.closed.Done()
}

// Close ends the waits of other calls, and closes the socket when they have returned.
func (d *descriptor) Close() error {
	for {
		n := d.users.Load()
		if n&closing != 0 {
			return os.ErrClosed
		}
		if d.users.CompareAndSwap(n, n+oneUser+closing) {
			break
		}
	}
	runtimePollUnblock(d.poll)
	d.leave()
	d.closed.Wait()
	return nil
}

// Control implements syscall.RawConn.
func (d *descriptor) Control(f func(fd uintptr)) error {
	if !d.enter() {
		return os.ErrClosed
	}
	defer d.leave()
	f(uintptr(d.fd))
	return nil
}

// Read implements syscall.RawConn.
func (d *descriptor) Read(f func(fd uintptr) (done bool)) error {
	d.reading.Lock()
	defer d.reading.Unlock()
	return d.try('r', f)
}

// Write implements syscall.RawConn.
func (d *descriptor) Write(f func(fd uintptr) (done bool)) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	return d.try('w', f)
}

// try calls f until it is done, with waits between.
func (d *descriptor) try(mode int, f func(fd uintptr) (done bool)) error {
	if !d.enter() {
		return os.ErrClosed
	}
	defer d.leave()
	code := runtimePollReset(d.poll, mode)
	for code == 0 && !f(uintptr(d.fd)) {
		code = runtimePollWait(d.poll, mode)
	}
	switch code {
	case 0:
		return nil
	case pollFailed:
		return errFailed
	}
	return pollError(code)
}

// SetDeadline sets both deadlines; the zero time means none.
func (d *descriptor) SetDeadline(t time.Time) error { return d.setDeadline(t, 'r'+'w') }

// SetReadDeadline makes the waits of Read fail with os.ErrDeadlineExceeded after t.
func (d *descriptor) SetReadDeadline(t time.Time) error { return d.setDeadline(t, 'r') }

// SetWriteDeadline is SetReadDeadline for Write.
func (d *descriptor) SetWriteDeadline(t time.Time) error { return d.setDeadline(t, 'w') }

func (d *descriptor) setDeadline(t time.Time, mode int) error {
	if !d.enter() {
		return os.ErrClosed
	}
	defer d.leave()
	left := int64(0) // no deadline
	if !t.IsZero() {
		if left = int64(time.Until(t)); left == 0 {
			left = -1
		}
	}
	runtimePollSetDeadline(d.poll, left, mode)
	return nil
}

// pollDesc returns the place of a descriptor in the netpoller. 0: it is not known.
func pollDesc(d *descriptor) uintptr { return d.poll }
