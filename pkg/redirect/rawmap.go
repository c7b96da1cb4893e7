package redirect

import (
	"runtime"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Calls for the maps that each connection uses. The Go runtime does not know of them, as it does
// of those of ebpf.Map: while the program is not busy, it would wake the thread that watches over
// long system calls for each (see descriptor in package rawio). A call for a hash map takes about
// a microsecond and never waits.

// mapAttr is what the commands for elements take (union bpf_attr in linux/bpf.h). Its pointers
// have 64 bits on every machine that the agent runs on.
type mapAttr struct {
	fd         uint32
	_          uint32
	key, value unsafe.Pointer
	flags      uint64
}

// takeElement is Map.LookupAndDelete. K and V are the types of the map's elements.
func takeElement[K, V any](m *ebpf.Map, key *K, value *V) error {
	return element(m, unix.BPF_MAP_LOOKUP_AND_DELETE_ELEM, unsafe.Pointer(key), unsafe.Sizeof(*key), unsafe.Pointer(value), unsafe.Sizeof(*value))
}

// putElement is Map.Put.
func putElement[K, V any](m *ebpf.Map, key *K, value *V) error {
	return element(m, unix.BPF_MAP_UPDATE_ELEM, unsafe.Pointer(key), unsafe.Sizeof(*key), unsafe.Pointer(value), unsafe.Sizeof(*value))
}

func element(m *ebpf.Map, command uintptr, key unsafe.Pointer, keySize uintptr, value unsafe.Pointer, valueSize uintptr) error {
	if keySize != uintptr(m.KeySize()) || valueSize != uintptr(m.ValueSize()) {
		return syscall.EINVAL // the kernel would read or write beyond them
	}
	attr := mapAttr{fd: uint32(m.FD()), key: key, value: value}
	_, _, errno := syscall.RawSyscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(m)
	if errno != 0 {
		return errno
	}
	return nil
}
