// Package confine takes from the agent's process what it does not need after its start:
// capabilities, and system calls. A defect of the proxy can then do less to the node. What
// is taken away does not come back, for any thread of the process.
package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capabilities that the agent uses as long as it runs.
//
//   - CAP_SYS_ADMIN: setns into the network namespaces of pods, bpf(2).
//   - CAP_NET_ADMIN: SO_MARK, sk_lookup programs, sock_diag in pods.
//   - CAP_SYS_PTRACE: /proc/PID/ns/net of processes of other users.
var kept = []uint{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE}

// Process confines the process. unmounts says that the agent will unmount a file system
// when it ends.
//
// It fails if the kernel has no seccomp filters, if the process already has one that not
// all of its threads have, or if the program was built with cgo. Parts of it may be in
// force then.
func Process(unmounts bool) error {
	if err := filter(program(os.Getpid(), unmounts)); err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	if err := drop(kept); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// filter installs a seccomp filter for all threads, and makes sure that no program that is
// executed has more rights than this one (PR_SET_NO_NEW_PRIVS).
func filter(code []unix.SockFilter) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl PR_SET_NO_NEW_PRIVS", err)
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	thread, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	if thread != 0 {
		return fmt.Errorf("seccomp: thread %d has another filter", thread)
	}
	return nil
}

// capHeader and capData are the arguments of capset(2). They are not on a stack, because
// all threads read them.
var (
	capHeader = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	capData   [2]unix.CapUserData
)

// drop reduces the capabilities of all threads to those of keep that the process has.
func drop(keep []uint) error {
	var have [2]unix.CapUserData
	header := capHeader
	if err := unix.Capget(&header, &have[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	for _, c := range keep {
		bit := have[c/32].Permitted & (1 << (c % 32))
		capData[c/32].Permitted |= bit
		capData[c/32].Effective |= bit
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&capHeader)), uintptr(unsafe.Pointer(&capData[0])), 0)
	switch {
	case errno == syscall.ENOTSUP:
		return errors.New("the program was built with cgo, and so cannot change all of its threads")
	case errno != 0:
		return os.NewSyscallError("capset", errno)
	}
	return nil
}
