package calls

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// names has the system calls that proxies make.
var names = map[uint32]string{
	unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_READV: "readv", unix.SYS_WRITEV: "writev", unix.SYS_CLOSE: "close",
	unix.SYS_RECVFROM: "recvfrom", unix.SYS_SENDTO: "sendto", unix.SYS_RECVMSG: "recvmsg", unix.SYS_SENDMSG: "sendmsg",
	unix.SYS_SPLICE: "splice", unix.SYS_SENDFILE: "sendfile",
	unix.SYS_SOCKET: "socket", unix.SYS_CONNECT: "connect", unix.SYS_ACCEPT4: "accept4", unix.SYS_SHUTDOWN: "shutdown", unix.SYS_BIND: "bind",
	unix.SYS_GETSOCKNAME: "getsockname", unix.SYS_GETPEERNAME: "getpeername", unix.SYS_GETSOCKOPT: "getsockopt", unix.SYS_SETSOCKOPT: "setsockopt",
	unix.SYS_FCNTL: "fcntl", unix.SYS_IOCTL: "ioctl", unix.SYS_SETNS: "setns",
	unix.SYS_EPOLL_PWAIT: "epoll_pwait", unix.SYS_EPOLL_CTL: "epoll_ctl", unix.SYS_PPOLL: "ppoll", unix.SYS_EVENTFD2: "eventfd2",
	unix.SYS_FUTEX: "futex", unix.SYS_NANOSLEEP: "nanosleep", unix.SYS_CLOCK_NANOSLEEP: "clock_nanosleep", unix.SYS_SCHED_YIELD: "sched_yield",
	unix.SYS_TGKILL: "tgkill", unix.SYS_GETPID: "getpid", unix.SYS_RT_SIGRETURN: "rt_sigreturn", unix.SYS_RT_SIGPROCMASK: "rt_sigprocmask",
	unix.SYS_CLOCK_GETTIME: "clock_gettime", unix.SYS_TIMERFD_SETTIME: "timerfd_settime", unix.SYS_GETRANDOM: "getrandom",
	unix.SYS_MMAP: "mmap", unix.SYS_MUNMAP: "munmap", unix.SYS_MADVISE: "madvise", unix.SYS_BRK: "brk", unix.SYS_CLONE: "clone",
	unix.SYS_BPF: "bpf", unix.SYS_OPENAT: "openat", unix.SYS_EXIT: "exit",
}

func name(number uint32) string {
	if n, ok := names[number]; ok {
		return n
	}
	if n, ok := more[number]; ok {
		return n
	}
	return fmt.Sprintf("call_%d", number)
}
