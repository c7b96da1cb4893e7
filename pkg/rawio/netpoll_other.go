//go:build !go1.26 || go1.27

package rawio

import (
	"os"
	"syscall"
	"time"
)

// Other versions of Go than those of netpoll.go.

const pollFailed = 3

func runtimePollWait(uintptr, int) int { panic("not called: there is no pollDesc") }

func pollError(int) error { return os.ErrClosed }

// descriptor is a socket and its place in the netpoller.
type descriptor struct {
	syscall.RawConn
	file *os.File
}

// newDescriptor takes ownership of a socket that does not block. It closes the socket if it fails.
func newDescriptor(fd int) (*descriptor, error) {
	file := os.NewFile(uintptr(fd), "tcp")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &descriptor{raw, file}, nil
}

func (d *descriptor) Close() error { return d.file.Close() }

func (d *descriptor) SetDeadline(t time.Time) error { return d.file.SetDeadline(t) }

func (d *descriptor) SetReadDeadline(t time.Time) error { return d.file.SetReadDeadline(t) }

func (d *descriptor) SetWriteDeadline(t time.Time) error { return d.file.SetWriteDeadline(t) }

func pollDesc(*descriptor) uintptr { return 0 }
