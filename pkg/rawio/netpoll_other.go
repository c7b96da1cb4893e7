//go:build !go1.26 || go1.27

package rawio

import "os"

// Other versions of Go than those of netpoll.go.

const pollFailed = 3

func runtimePollWait(uintptr, int) int { panic("not called: there is no pollDesc") }

func newSocketFile(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }

func pollError(int) error { return os.ErrClosed }

func pollDesc(*os.File) uintptr { return 0 }
