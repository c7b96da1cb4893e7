//go:build go1.26 && !go1.27

package rawio

import (
	"os"
	"reflect"
	"unsafe"
)

// What a Conn uses of Go's netpoller beside the standard library's interface. The linker lets
// other packages use it, but another version of Go may take it away or change it: the build
// constraint names the versions for which the package's tests have passed. Without it
// (netpoll_other.go) everything works as well, and takes one system call more for most reads.

// runtimePollWait waits until the netpoller has noticed, since the last wait of this mode, that
// the descriptor is ready. It returns 0, or a code that pollError knows. The caller keeps the
// descriptor from being closed meanwhile. To close its file ends the wait.
//
//go:linkname runtimePollWait internal/poll.runtime_pollWait
func runtimePollWait(desc uintptr, mode int) (code int)

// newSocketFile is os.NewFile for a socket that does not block. os.NewFile asks the kernel whether
// that is so, by a system call. fd must not be negative.
//
//go:linkname newSocketFile net.newUnixFile
func newSocketFile(fd int, name string) *os.File

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

// pollDesc returns the descriptor that a file has in the netpoller. 0: it is not known.
func pollDesc(file *os.File) uintptr {
	if pollDescAt < 0 {
		return 0
	}
	inner := *(*unsafe.Pointer)(unsafe.Pointer(file))
	return *(*uintptr)(unsafe.Add(inner, pollDescAt))
}

// pollDescAt is where an os.File has it: file.pfd.pd.runtimeCtx, in bytes from what the pointer
// file, its first field, points to. -1: its fields are other ones.
var pollDescAt = func() int {
	file, ok := reflect.TypeFor[os.File]().FieldByName("file")
	if !ok || file.Offset != 0 || file.Type.Kind() != reflect.Pointer {
		return -1
	}
	at, kind := 0, file.Type.Elem()
	for _, name := range []string{"pfd", "pd", "runtimeCtx"} {
		if kind.Kind() != reflect.Struct {
			return -1
		}
		field, ok := kind.FieldByName(name)
		if !ok {
			return -1
		}
		at, kind = at+int(field.Offset), field.Type
	}
	if kind.Kind() != reflect.Uintptr {
		return -1
	}
	return at
}()
